import { invalid } from './tables.js';

/** prime-rl's addresses end in /v1, and its admin routes do not begin with it. @throws WeightcastError WC_CONFIG_INVALID, without what may be a password */
export function addressOf(url: string): string {
  const shown = url.replace(/\/\/.*@/s, '//…@').slice(0, 200);
  if (!/^https?:\/\//i.test(url) || !URL.canParse(url)) {
    throw invalid(`client: ${shown} is not an http or https address`);
  }
  const { username, password } = new URL(url);
  if (username !== '' || password !== '') {
    throw invalid(
      `client: ${shown} has a user or password in it; api_key_var names the variable with the key`,
    );
  }
  return url.replace(/\/+$/, '').replace(/\/v1$/, '');
}

export function listOf(value: string | readonly string[]): readonly string[] {
  return typeof value === 'string' ? [value] : value;
}
