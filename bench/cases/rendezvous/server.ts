/**
 * A process that serves the unique id: argv is 'ours' or 'bare', and the number of clients. Prints a port for every line on stdin, and its CPU
 * seconds since then when the clients have the id.
 */
import { once } from 'node:events';
import { type AddressInfo, createServer, type Socket } from 'node:net';
import { createInterface } from 'node:readline/promises';
import { openRendezvous } from '#weightcast/transports/nccl/rendezvous/index.js';

interface Meeting {
  readonly port: number;
  readonly done: Promise<void>;
  close(): Promise<void>;
}

async function ours(clients: number): Promise<Meeting> {
  const meeting = await openRendezvous({
    host: '127.0.0.1',
    port: 0,
    uniqueId: new Uint8Array(128),
    expected: Array.from({ length: clients }, (_, i) => ({ engine: 'http://127.0.0.1:1', rank: i + 1 })),
    timeoutMs: 60_000,
  });
  return { port: meeting.port, done: meeting.complete(), close: () => meeting.close() };
}

const VALUE_BYTES = 247;
/** Bytes of a request of bench/native/store_clients.c, and the answer: it sends one at a time, and Node hands each over whole. */
const PING_BYTES = 10;
const ADD_BYTES = 22;
const WAIT_BYTES = 36;

/** What no server on node:net can beat: canned answers, told apart by the length of the request. */
async function bare(clients: number): Promise<Meeting> {
  const value = Buffer.alloc(8 + VALUE_BYTES);
  value.writeBigUInt64LE(BigInt(VALUE_BYTES));
  const sockets = new Set<Socket>();
  const waiting: Socket[] = [];
  let joined = 0;
  let served = 0;
  let finish = (): void => {};
  const done = new Promise<void>((resolve) => {
    finish = resolve;
  });
  const server = createServer({ noDelay: true }, (socket) => {
    sockets.add(socket);
    socket.on('error', () => {});
    socket.on('close', () => sockets.delete(socket));
    socket.on('data', ({ length }) => {
      if (length === PING_BYTES) socket.write(Buffer.alloc(4));
      else if (length === ADD_BYTES) {
        joined += 1;
        socket.write(Buffer.alloc(8));
        if (joined === clients) for (const other of waiting.splice(0)) other.write(Buffer.alloc(1));
      } else if (length === WAIT_BYTES) {
        if (joined === clients) socket.write(Buffer.alloc(1));
        else waiting.push(socket);
      } else {
        served += 1;
        socket.write(value);
        if (served === clients) finish();
      }
    });
  });
  server.listen({ host: '127.0.0.1', port: 0, backlog: 4096 });
  await once(server, 'listening');
  return {
    port: (server.address() as AddressInfo).port,
    done,
    close: async () => {
      for (const socket of sockets) socket.destroy();
      server.close();
      await once(server, 'close');
    },
  };
}

const [, , kind, clients] = process.argv;
const print = (value: number): void => void process.stdout.write(`${value}\n`);
for await (const _ of createInterface(process.stdin)) {
  const before = process.cpuUsage();
  const meeting = await (kind === 'ours' ? ours : bare)(Number(clients));
  print(meeting.port);
  await meeting.done;
  const { user, system } = process.cpuUsage(before);
  print((user + system) / 1e6);
  await meeting.close();
}
