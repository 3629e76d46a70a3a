import { fileURLToPath } from 'node:url';
import { expect, test } from 'vitest';
import { type Ended, Spawned } from './spawned.js';

const program = fileURLToPath(new URL('./fake-push.mjs', import.meta.url));

interface Step {
  /** Sent once this text was seen on stderr. */
  readonly after: string;
  readonly signal: NodeJS.Signals;
}

async function pushed(fake: string, steps: readonly Step[], args: readonly string[] = []): Promise<Ended> {
  const push = ['push', '/weights', '-e', 'http://127.0.0.1:9', ...args];
  await using process = new Spawned([program, ...push], { FAKE: fake });
  for (const { after, signal } of steps) {
    await process.err.seen(after);
    process.signal(signal);
  }
  return await process.ended;
}

test.each(['SIGINT', 'SIGTERM', 'SIGHUP'] as const)(
  '%s in the middle of an update ends it in a defined state, which is printed',
  async (signal) => {
    const ended = await pushed('paused', [{ after: 'pause', signal }]);
    expect(ended).toMatchObject({ code: 1, signal: null });
    expect(ended.err).toContain('interrupted: leaving the engines in a defined state');
    expect(ended.err).toContain('engine    http://10.0.0.5:8000: serving-old');
  },
);

test('the exit code is 130 only when nothing had begun', async () => {
  expect(await pushed('untouched', [{ after: 'preflight', signal: 'SIGINT' }])).toMatchObject({ code: 130 });
  const connecting = await pushed('connecting', [{ after: 'connecting', signal: 'SIGINT' }], ['--json']);
  expect(connecting.code).toBe(130);
  expect(JSON.parse(connecting.out).error.code).toBe('WC_UPDATE_ABORTED');
});

test('a second signal says what is waited for, a third leaves with a warning', async () => {
  const steps = [
    { after: 'pause\n', signal: 'SIGINT' },
    { after: 'interrupted', signal: 'SIGINT' },
    { after: 'still waiting for the engines', signal: 'SIGINT' },
  ] as const;
  const ended = await pushed('stuck', steps, ['--json']);
  expect(ended).toMatchObject({ code: 3, signal: null });
  expect(ended.err).toContain('engines may be paused');
  expect(ended.err).toContain('Push again to heal them');
  expect(JSON.parse(ended.out).error.code).toBe('WC_UPDATE_ABORTED');
});
