import { describeNode } from './support/matrix.js';

describeNode('22.23.3');
