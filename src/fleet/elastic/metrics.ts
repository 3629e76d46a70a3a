/** What prime-rl's elastic pool logs, under its names. */
import type { Desired, PoolState } from './state.js';

export interface ElasticMetrics {
  /** Engines that the sources name. */
  readonly 'elastic/num_servers': number;
  readonly 'elastic/num_ready_servers': number;
  /** Step of the version that the fleet is on: the number at the end of its name. Absent while there is none. */
  readonly 'elastic/desired_step'?: number;
}

/** A plain object, as `wandb.log` takes it. */
export function elasticMetrics({ desired, engines }: PoolState): ElasticMetrics {
  const step = desired === null ? null : stepOf(desired);
  return {
    'elastic/num_servers': engines.size,
    'elastic/num_ready_servers': [...engines.values()].filter(({ state }) => state === 'ready').length,
    ...(step === null ? {} : { 'elastic/desired_step': step }),
  };
}

/** The same for Prometheus' text format, with a line for each engine's state. */
export function prometheusText(state: PoolState): string {
  const lines = Object.entries(elasticMetrics(state)).flatMap(([name, value]) => {
    const metric = `weightcast_${name.replace('/', '_')}`;
    return [`# TYPE ${metric} gauge`, `${metric} ${value}`];
  });
  lines.push('# TYPE weightcast_elastic_server_state gauge');
  for (const { id, state: name } of state.engines.values()) {
    lines.push(`weightcast_elastic_server_state{server="${id.replace(/["\\\n]/g, '_')}",state="${name}"} 1`);
  }
  return `${lines.join('\n')}\n`;
}

function stepOf({ weights, adapters }: Desired): number | null {
  const adapter = adapters.at(-1);
  const name =
    adapter === undefined ? (weights?.version ?? weights?.directory) : (adapter.path ?? adapter.name);
  const digits = /(\d{1,15})\/?$/.exec(name ?? '')?.[1];
  return digits === undefined ? null : Number(digits);
}
