import { describeSanitized } from './sanitized.js';

describeSanitized('thread');
