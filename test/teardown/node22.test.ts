import { describeEndings } from './support/matrix.js';

describeEndings('22.23.3');
