import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { debianPackage } from '../debian.js';
import { answers, freePort, type ProcessGroup, startGroup, untilReady } from '../group.js';

/** How the processes of one Dynamo deployment find and reach each other. */
export interface Plane {
  readonly env: Readonly<Record<string, string>>;
  stop(): Promise<void>;
}

/** Everything on the loopback; Dynamo's own defaults are every interface. */
const LOOPBACK = {
  DYN_SYSTEM_HOST: '127.0.0.1',
  DYN_TCP_RPC_HOST: '127.0.0.1',
  DYN_TCP_RESPONSE_STREAM_HOST: '127.0.0.1',
  DYN_EVENT_PLANE_HOST: '127.0.0.1',
  HF_HUB_OFFLINE: '1',
} as const;

/** Discovery by files, requests by TCP: nothing beside Dynamo runs. */
export async function filePlane(): Promise<Plane> {
  const directory = await mkdtemp(join(tmpdir(), 'weightcast-dynamo-'));
  return {
    env: {
      ...LOOPBACK,
      DYN_DISCOVERY_BACKEND: 'file',
      DYN_FILE_KV: directory,
      DYN_REQUEST_PLANE: 'tcp',
      DYN_EVENT_PLANE: 'zmq', // no worker here publishes events, so nothing binds
    },
    stop: () => rm(directory, { recursive: true, force: true }),
  };
}

export interface EtcdPlane extends Plane {
  readonly etcd: ProcessGroup;
  readonly nats: ProcessGroup;
}

/** Discovery by a real etcd, requests by a real NATS, as NeMo Curator launches them. */
export async function etcdPlane(): Promise<EtcdPlane> {
  const [etcdRoot, natsRoot] = [await debianPackage('etcd-server'), await debianPackage('nats-server')];
  const [client, peer, requests] = [await freePort(), await freePort(), await freePort()];
  const data = await mkdtemp(join(tmpdir(), 'weightcast-etcd-'));
  const url = `http://127.0.0.1:${client}`;
  const etcd = await startGroup([
    join(etcdRoot, 'usr/bin/etcd'),
    ...['--data-dir', data, '--listen-client-urls', url, '--advertise-client-urls', url],
    ...['--listen-peer-urls', `http://127.0.0.1:${peer}`],
    ...['--initial-advertise-peer-urls', `http://127.0.0.1:${peer}`],
    ...['--initial-cluster', `default=http://127.0.0.1:${peer}`],
  ]);
  await untilReady('etcd', etcd, 30_000, () => answers(`${url}/health`));
  const nats = await startGroup([
    join(natsRoot, 'usr/sbin/nats-server'),
    ...['--addr', '127.0.0.1', '--port', String(requests), '--jetstream', '--store_dir', join(data, 'nats')],
  ]);
  await untilReady('nats-server', nats, 30_000, async () => nats.log().includes('Server is ready'));
  return {
    env: {
      ...LOOPBACK,
      DYN_DISCOVERY_BACKEND: 'etcd',
      ETCD_ENDPOINTS: url,
      ETCD_LEASE_TTL: '5', // a killed worker is gone after 5 s instead of 30
      NATS_SERVER: `nats://127.0.0.1:${requests}`,
      DYN_REQUEST_PLANE: 'nats',
      DYN_EVENT_PLANE: 'nats',
    },
    etcd,
    nats,
    stop: async () => {
      await Promise.all([nats.stop(), etcd.stop()]);
      await rm(data, { recursive: true, force: true });
    },
  };
}
