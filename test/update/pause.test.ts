import { expect, it } from 'vitest';
import { createHttpClient } from '../../src/engines/http.js';
import { vllmAdmin } from '../../src/engines/vllm/admin.js';
import { selectDialect } from '../../src/engines/vllm-native/dialects.js';
import type { EngineLink } from '../../src/fleet/engine.js';
import type { Attempt } from '../../src/update/attempt.js';
import { NO_JOURNAL } from '../../src/update/claim/journal.js';
import { Ledger } from '../../src/update/ledger.js';
import { pauseAll } from '../../src/update/pause.js';
import { resolveSettings } from '../../src/update/settings.js';
import { type Handler, sendJson, type TestServer, withServer } from '../engines/server.js';

async function withPausable(
  handler: Handler,
  use: (attempt: Attempt, server: TestServer) => Promise<void>,
): Promise<void> {
  await withServer(handler, async (server) => {
    const { url } = server;
    await using http = createHttpClient();
    const engine: EngineLink = {
      id: url,
      url,
      backend: 'vllm',
      admin: vllmAdmin({ engine: url, version: '0.32.0', notes: [] }, selectDialect('0.32.0', url).dialect),
      declaredWorkers: null,
      call: (exchange, options) => http.exchange(server.target, exchange, options),
    };
    const ledger = new Ledger([engine], () => undefined);
    ledger.set(url, 'serving-old');
    const attempt = {
      settings: resolveSettings({ engines: [url], stateDir: null }),
      engines: [engine],
      ledger,
      journal: NO_JOURNAL,
      signal: new AbortController().signal,
    } as unknown as Attempt;
    await use(attempt, server);
  });
}

it('pauses over a connection that was opened before', async () => {
  await withPausable(
    (_, response) => sendJson(response, 200, { status: 'paused' }),
    async (attempt, { received, url }) => {
      await pauseAll(attempt);
      expect(received.map(({ path }) => path)).toEqual(['/health', '/pause']);
      expect(received[0]?.port).toBe(received[1]?.port);
      expect(attempt.ledger.state(url)).toBe('paused');
    },
  );
});

it('pauses an engine that does not say that it is well', async () => {
  await withPausable(
    ({ path }, response) =>
      sendJson(response, path === '/health' ? 404 : 200, path === '/health' ? {} : { status: 'paused' }),
    async (attempt, { url }) => {
      await pauseAll(attempt);
      expect(attempt.ledger.state(url)).toBe('paused');
    },
  );
});
