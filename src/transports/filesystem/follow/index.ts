/** Local copies of published versions. */
export { type FollowPublishedOptions, followPublished } from './follow.js';
