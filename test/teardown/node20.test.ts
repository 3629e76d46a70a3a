import { describeNode } from './support/matrix.js';

describeNode(null);
