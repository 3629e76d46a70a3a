/**
 * A hostile client in a process of its own: it has its own file descriptors, can be stopped like a host that vanished, and its work
 * does not count as the store's. Commands come over IPC, each answered once done; connections stay open until the process ends.
 */
import { once } from 'node:events';
import { createConnection } from 'node:net';

const sockets = new Set();
let closed = 0;
let received = 0;

async function open(port, { deaf }) {
  const socket = createConnection({ host: '127.0.0.1', port, noDelay: true });
  socket.setMaxListeners(0);
  socket.on('error', () => {});
  sockets.add(socket);
  socket.on('close', () => {
    closed += sockets.delete(socket) ? 1 : 0;
  });
  await Promise.race([once(socket, 'connect'), once(socket, 'close')]).catch(() => {});
  if (deaf) socket.pause();
  else
    socket.on('data', (chunk) => {
      received += chunk.length;
    });
  return socket;
}

const commands = {
  /** Opens `count` connections, `width` at a time, and writes `hex` once on each. */
  async flood({ port, count, hex = '', width = 512, deaf = false }) {
    const bytes = Buffer.from(hex, 'hex');
    let left = count;
    const worker = async () => {
      while (left-- > 0) {
        const socket = await open(port, { deaf });
        if (bytes.length > 0) socket.write(bytes);
      }
    };
    await Promise.all(Array.from({ length: Math.min(width, count) }, worker));
  },
  /** `count` connections that send `hex` a byte every `everyMs`, and never finish. */
  async trickle({ port, count, hex, everyMs }) {
    const bytes = Buffer.from(hex, 'hex');
    for (let i = 0; i < count; i++) {
      const socket = await open(port, { deaf: false });
      let at = 0;
      const timer = setInterval(() => {
        if (socket.destroyed || at === bytes.length) clearInterval(timer);
        else socket.write(bytes.subarray(at, ++at));
      }, everyMs);
    }
  },
  /** Writes `hex` over and over on every connection, as fast as it is taken, until the process is killed. */
  async pour({ hex }) {
    const bytes = Buffer.from(hex, 'hex');
    for (const socket of sockets) {
      // A write that failed calls back before the socket counts as destroyed: writing again from there would go round for ever.
      const more = (error) => {
        if (!error && !socket.destroyed) socket.write(bytes, more);
      };
      more();
    }
  },
  /** SETs under ever new keys on every connection until the store closes it; then once more on a new connection, `rounds` times. */
  async fill({ port, keyBytes, valueBytes, rounds }) {
    let next = 0;
    const entry = () => {
      const key = Buffer.from(`/${process.pid}-${next++}`.padEnd(keyBytes, 'x'));
      const bytes = Buffer.alloc(17 + key.length + valueBytes, 1);
      bytes.writeUInt8(1, 0);
      bytes.writeBigUInt64LE(BigInt(key.length), 1);
      key.copy(bytes, 9);
      bytes.writeBigUInt64LE(BigInt(valueBytes), 9 + key.length);
      return bytes;
    };
    for (let round = 0; round < rounds; round++) {
      const socket = await open(port, { deaf: false });
      socket.write(Buffer.from('00cef7853c', 'hex'));
      while (!socket.destroyed) {
        if (!socket.write(Buffer.concat(Array.from({ length: 64 }, entry)))) {
          await Promise.race([once(socket, 'drain'), once(socket, 'close')]).catch(() => {});
        }
      }
    }
  },
  async count() {
    return { open: sockets.size, closed, received };
  },
};

process.on('message', async ({ id, name, argument }) => {
  process.send({ id, value: (await commands[name](argument)) ?? null });
});
process.on('disconnect', () => process.exit());
