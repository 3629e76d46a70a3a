import { describeSanitized } from './sanitized.js';

describeSanitized('address');
