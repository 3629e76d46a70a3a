import { describeNode } from './support/matrix.js';

describeNode('24.21.0');
