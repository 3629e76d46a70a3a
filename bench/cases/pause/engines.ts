/**
 * A process of stub engines that speak the admin routes of vLLM 0.32, and /update_weights as prime-rl's servers have it, and do nothing: argv is how many.
 * Each listens on a port of its own and answers at once, over as little of Node as HTTP/1.1 allows: what an update takes is then the client's own time.
 * Prints the ports as one line of JSON.
 *
 * A seed on stdin begins a round: from then on each engine takes a time of its own to pause and to resume, and what the slowest of the round
 * before really took is printed as a line of JSON.
 */
import { once } from 'node:events';
import { type AddressInfo, createServer, type Socket } from 'node:net';
import { createInterface } from 'node:readline';
import { serviceMs } from './service.js';
import type { SlowestMs } from './stubs.js';

const ADMIN_ROUTES = [
  '/pause',
  '/resume',
  '/is_paused',
  '/get_world_size',
  '/collective_rpc',
  '/reset_prefix_cache',
];
const VERSION_ROUTES = ['/weight_info', '/update_weight_version'];
const VERSION = '1';

const answer = (body: unknown): Buffer => {
  const text = JSON.stringify(body);
  return Buffer.from(
    `HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: ${Buffer.byteLength(text)}\r\n\r\n${text}`,
  );
};
const NOT_FOUND = Buffer.from('HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n');

const ANSWERS: ReadonlyMap<string, Buffer> = new Map([
  ['/version', answer({ version: '0.32.0' })],
  [
    '/openapi.json',
    answer({ paths: Object.fromEntries([...ADMIN_ROUTES, ...VERSION_ROUTES].map((path) => [path, {}])) }),
  ],
  ['/health', answer({})],
  ['/get_world_size', answer({ world_size: 1 })],
  ['/is_paused', answer({ is_paused: false })],
  ['/v1/models', answer({ data: [{ id: 'model' }] })],
  ['/weight_info', answer({ weight_version: VERSION })],
  ['/pause', answer({ status: 'paused' })],
  ['/collective_rpc', answer({ results: [null] })],
  ['/update_weight_version', answer({ success: true })],
  ['/update_weights', answer({ status: 'ok' })],
  ['/resume', answer({ status: 'resumed' })],
]);

const SLOW = { '/pause': 'pause', '/resume': 'resume' } as const;
type Slow = keyof typeof SLOW;
const isSlow = (path: string): path is Slow => Object.hasOwn(SLOW, path);

let seed: number | null = null;
let slowest = { pause: 0, resume: 0 };

function reply(socket: Socket, path: string, engine: number): void {
  const bytes = ANSWERS.get(path) ?? NOT_FOUND;
  if (seed === null || !isSlow(path)) {
    socket.write(bytes);
    return;
  }
  const route = SLOW[path];
  const began = performance.now();
  setTimeout(() => {
    // A busy machine's timers are late: that is the engine's time too.
    slowest[route] = Math.max(slowest[route], performance.now() - began);
    socket.write(bytes);
  }, serviceMs({ seed, engine, route }));
}

/** Answers whole requests, however they are cut. */
function serve(socket: Socket, engine: number): void {
  let text = '';
  socket.setNoDelay(true);
  socket.on('error', () => {});
  socket.on('data', (chunk) => {
    text += chunk.toString('latin1');
    for (;;) {
      const head = text.indexOf('\r\n\r\n');
      if (head < 0) return;
      const length = Number(/\r\ncontent-length: *(\d+)/i.exec(text.slice(0, head))?.[1] ?? 0);
      if (text.length < head + 4 + length) return;
      const path = text.slice(text.indexOf(' ') + 1).split(/[ ?]/, 1)[0] ?? '';
      text = text.slice(head + 4 + length);
      reply(socket, path, engine);
    }
  });
}

const ports: number[] = [];
for (let engine = 0; engine < Number(process.argv[2]); engine += 1) {
  const server = createServer((socket) => serve(socket, engine));
  server.listen({ host: '127.0.0.1', port: 0, backlog: 512 });
  await once(server, 'listening');
  ports.push((server.address() as AddressInfo).port);
}
process.stdout.write(`${JSON.stringify(ports)}\n`);
createInterface(process.stdin)
  .on('line', (line) => {
    process.stdout.write(`${JSON.stringify(slowest satisfies SlowestMs)}\n`);
    seed = Number(line);
    slowest = { pause: 0, resume: 0 };
  })
  .on('close', () => process.exit());
