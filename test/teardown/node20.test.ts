import { describeEndings } from './support/matrix.js';

describeEndings(null);
