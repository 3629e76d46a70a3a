/** Version strings as vLLM builds them: '0.32.0', '0.32.0+cpu', '0.32.1rc1.dev3+g1a2b3c'. */

export interface VllmVersion {
  readonly major: number;
  readonly minor: number;
  readonly patch: number;
}

const PATTERN = /^v?(\d{1,6})\.(\d{1,6})(?:\.(\d{1,6}))?(?:$|[^0-9])/;

/** The release that a version string belongs to (a development build belongs to the release it leads to); null when it is none. */
export function parseVersion(text: string): VllmVersion | null {
  const match = PATTERN.exec(text);
  if (match === null) return null;
  return { major: Number(match[1]), minor: Number(match[2]), patch: Number(match[3] ?? 0) };
}

/** Negative when `a` is older than `b`. */
export function compareVersions(a: VllmVersion, b: VllmVersion): number {
  return a.major - b.major || a.minor - b.minor || a.patch - b.patch;
}
