import { describeEndings } from './support/matrix.js';

describeEndings('24.21.0');
