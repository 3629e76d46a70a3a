/** A push that was taken for dead while it waited for an engine, and whose engines another one holds when it goes on. */
import { mkdtemp, open, readdir, readFile, rm, utimes } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import { type Claim, claimEngines } from '../../src/update/claim/claim.js';
import { PUSH } from './claim/support.js';
import { scriptedProxy } from './proxy.js';
import { until } from './scene.js';
import { failedReport, postsTo, withBench } from './support.js';

it.each([['/pause'], ['/start_weight_update'], ['/finish_weight_update'], ['/resume']])(
  'asks nothing of any engine any more, when it was waiting for %s',
  { timeout: 60_000 },
  async (path) => {
    await withBench({ engines: 2, workers: 1 }, async ({ connect, engines, urls, b, a }) => {
      const stateDir = await mkdtemp(join(tmpdir(), 'weightcast-taken-'));
      const proxies = await Promise.all(urls.map(scriptedProxy));
      try {
        const behind = proxies.map(({ url }) => url);
        proxies[1]?.on(path, { kind: 'silence' });
        const session = await connect({
          engines: behind,
          stateDir,
          fallback: 'filesystem',
          recover: a,
          timeouts: { pause: 4_000, update: 6_000, resume: 4_000 },
        });
        const failed = failedReport(session.update(b));
        await until(() => proxies.every(({ posts }) => posts.includes(path)));
        await until(async () => (await postsTo(engines[0] as (typeof engines)[number])).includes(path));
        const claim = await takeOver(stateDir, behind);
        const asked = proxies.map(({ posts }) => posts.length);
        const report = await failed;
        expect(proxies.map(({ posts }) => posts.length)).toEqual(asked);
        expect(report).toMatchObject({
          outcome: 'failed',
          error: { code: 'WC_UPDATE_BUSY', message: expect.stringContaining('taken for dead') },
        });
        for (const engine of report.engines) {
          expect(engine.history.at(-1)).toMatchObject({
            state: 'unknown',
            reason: 'another push took it over',
          });
        }
        await session.close();
        expect(proxies.map(({ posts }) => posts.length)).toEqual(asked);
        await claim.release();
      } finally {
        await Promise.all(proxies.map((proxy) => proxy[Symbol.asyncDispose]()));
        await rm(stateDir, { recursive: true });
      }
    });
  },
);

/** Takes the engines from the push of this process, as another host would that has seen it silent. */
async function takeOver(directory: string, engines: readonly string[]): Promise<Claim> {
  const [name] = (await readdir(directory)).filter((one) => one.endsWith('.push'));
  const file = join(directory, name ?? '');
  const member = '"bootId":"';
  const at = (await readFile(file)).indexOf(member) + member.length;
  await using handle = await open(file, 'r+');
  await handle.write('x', at);
  let claim: Claim | null = null;
  // Until it is silent: it still writes down what it has heard.
  await until(async () => {
    await utimes(file, 1, 1);
    claim = await claimEngines({ directory, engines, role: 'push', push: PUSH, patienceMs: 0 }).catch(
      () => null,
    );
    return claim !== null;
  });
  return claim as unknown as Claim;
}
