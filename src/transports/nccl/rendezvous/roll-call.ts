/** A worker that a rendezvous waits for: its rank in the communicator and the engine it belongs to, as the user named it. */
export interface ExpectedWorker {
  readonly rank: number;
  readonly engine: string;
}

export interface Attendance {
  readonly expected: readonly ExpectedWorker[];
  /** IP address of each worker that joined. */
  readonly joinedFrom: readonly string[];
  /** IP addresses of each engine, as far as they are known. */
  readonly engineAddresses: ReadonlyMap<string, ReadonlySet<string>>;
}

export interface RollCall {
  /** One sentence: '3 of 4 workers joined; missing: …'. */
  readonly message: string;
  /** Engines that certainly lack a worker; null when that can't be told. */
  readonly missingEngines: readonly string[] | null;
}

interface Host {
  readonly addresses: ReadonlySet<string>;
  readonly engines: readonly string[];
}

/**
 * Says who is missing, as well as it can be known. Clients of a TCPStore don't say their rank, so workers are told apart by the
 * address they came from: exact when every engine has a host of its own, no more than a count when engines share one.
 */
export function callRoll({ expected, joinedFrom, engineAddresses }: Attendance): RollCall {
  const count = `${joinedFrom.length} of ${expected.length} workers joined`;
  const hosts = groupByHost(expected, engineAddresses);
  const strangers = joinedFrom.filter((address) => !hosts?.some((host) => host.addresses.has(address)));
  if (hosts === null || strangers.length > 0) {
    const addresses = [...new Set(joinedFrom)];
    const from = joinedFrom.length === 0 ? '' : ` (from ${abridged(addresses, addresses.length)})`;
    return {
      message: `${count}${from}; engines expected: ${describe(expected)}`,
      missingEngines: joinedFrom.length === 0 ? enginesOf(expected) : null,
    };
  }
  const short = hosts.flatMap((host) => {
    const workers = expected.filter(({ engine }) => host.engines.includes(engine));
    const joined = joinedFrom.filter((address) => host.addresses.has(address)).length;
    return joined < workers.length ? [{ host, workers, joined }] : [];
  });
  const missing = short.map(({ workers, joined }) =>
    joined === 0 ? describe(workers) : `${workers.length - joined} of the workers of ${describe(workers)}`,
  );
  const certain = short.every(({ host, joined }) => joined === 0 || host.engines.length === 1);
  return {
    message: missing.length === 0 ? count : `${count}; missing: ${abridged(missing, missing.length)}`,
    missingEngines: certain ? short.flatMap(({ host }) => host.engines) : null,
  };
}

/** Engines that share an address are one host. null when the address of some engine is not known. */
function groupByHost(
  expected: readonly ExpectedWorker[],
  engineAddresses: Attendance['engineAddresses'],
): readonly Host[] | null {
  let hosts: Host[] = [];
  for (const engine of enginesOf(expected)) {
    const addresses = engineAddresses.get(engine);
    if (addresses === undefined || addresses.size === 0) return null;
    const same = hosts.filter((host) => [...addresses].some((address) => host.addresses.has(address)));
    const merged = {
      addresses: new Set([...same.flatMap((host) => [...host.addresses]), ...addresses]),
      engines: [...same.flatMap((host) => host.engines), engine],
    };
    hosts = [...hosts.filter((host) => !same.includes(host)), merged];
  }
  return hosts;
}

/** Engines, hosts and addresses that one message lists at most; the error's details have them all. */
const NAMED = 8;

const abridged = (named: readonly string[], total: number): string =>
  named.slice(0, NAMED).join(', ') + (total > NAMED ? ` and ${total - NAMED} more` : '');

const enginesOf = (workers: readonly ExpectedWorker[]): string[] => [
  ...new Set(workers.map(({ engine }) => engine)),
];

/** 'http://a:8000 (ranks 1-4), http://b:8000 (rank 5)' */
function describe(workers: readonly ExpectedWorker[]): string {
  const engines = enginesOf(workers);
  const named = engines.slice(0, NAMED).map((engine) => {
    const ranks = workers.filter((worker) => worker.engine === engine).map(({ rank }) => rank);
    return `${engine} (rank${ranks.length > 1 ? 's' : ''} ${spans(ranks)})`;
  });
  return abridged(named, engines.length);
}

/** '1-4, 7' */
function spans(ranks: readonly number[]): string {
  const sorted = [...ranks].sort((a, b) => a - b);
  const starts = sorted.filter((rank, i) => sorted[i - 1] !== rank - 1);
  const ends = sorted.filter((rank, i) => sorted[i + 1] !== rank + 1);
  return starts.map((start, i) => (start === ends[i] ? `${start}` : `${start}-${ends[i]}`)).join(', ');
}
