/** Whether an engine serves the model that a fleet is of. */
import { WeightcastError } from '../errors.js';

/**
 * Asked where the models are, which for a Dynamo worker is the frontend.
 *
 * @param wanted null: whatever it serves
 * @param listed ids of its /v1/models
 * @throws WeightcastError WC_CONFIG_INVALID, which says what it serves
 */
export function requireModel(engine: string, wanted: string | null, listed: readonly string[]): void {
  if (wanted === null || listed.includes(wanted)) return;
  const serves = listed.length === 0 ? 'it lists none' : `it serves ${listed.slice(0, 10).join(', ')}`;
  throw new WeightcastError('WC_CONFIG_INVALID', `${engine} does not serve the model ${wanted}: ${serves}`, {
    engine,
    phase: 'preflight',
    details: { model: wanted, models: listed },
  });
}
