/** Waiting for engines that are still starting, as prime-rl's orchestrator does before anything else. */
import type { Settings } from '../config.js';
import type { FleetOptions } from '../update/types.js';
import { printable } from './format.js';
import type { Monitor } from './monitor.js';

/**
 * Of engines that are named: those that are to be found are waited for by --timeout-discovery.
 *
 * @param presetSeconds where nothing is said; null: they must answer at once, to whoever asks next
 * @throws WeightcastError WC_ENGINE_TIMEOUT, WC_ENGINE_UNAUTHORIZED, WC_CONFIG_INVALID, WC_UPDATE_ABORTED
 */
export async function awaitReady(
  { engines, backend, apiKey, headers }: FleetOptions,
  { timeouts }: Settings,
  { monitor, presetSeconds }: { readonly monitor: Monitor; readonly presetSeconds: number | null },
): Promise<void> {
  const seconds = timeouts?.ready ?? presetSeconds;
  if (engines.length === 0 || seconds === null) return;
  const { checkHealth } = await import('../operations/health.js');
  await checkHealth(engines, {
    ...{ admin: backend ?? 'vllm', signal: monitor.signal, timeoutMs: seconds * 1000 },
    ...(apiKey === undefined ? {} : { apiKey }),
    ...(headers === undefined ? {} : { headers }),
    onLog: (line) => monitor.say(printable(line)),
  });
}
