/** Claims of real processes on one state directory. */
import { execFileSync } from 'node:child_process';
import { appendFile, mkdir, readdir, readFile, symlink, utimes, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { lifeOf, processStat, thisProcess } from '../../../src/holder.js';
import { claimEngines } from '../../../src/update/claim/claim.js';
import { engineKey } from '../../../src/update/claim/identity.js';
import { A, B, C, claimant, PUSH, recordsIn, recordText, request, withFolder } from './support.js';

const LONG = 120_000;

describe('a living push', () => {
  it('keeps others from its engines, in the same process too, and names itself', async () => {
    await withFolder(async (directory) => {
      const claim = await claimEngines(request(directory, [A, B]));
      const refused = claimEngines(request(directory, [B, C]));
      await expect(refused).rejects.toMatchObject({
        code: 'WC_UPDATE_BUSY',
        engine: B,
        message: expect.stringMatching(
          new RegExp(
            `^${B} is held by the push of /checkpoints/step_1 by process ${process.pid} on host .*, begun 20`,
          ),
        ),
        remedy: expect.stringContaining(`kill ${process.pid}`),
        details: { pid: process.pid, since: expect.stringMatching(/^20/) },
      });
      // What was refused leaves nothing.
      expect(await readdir(directory)).toHaveLength(1);
      await claim.release();
      expect(await readdir(directory)).toEqual([]);
    });
  });

  it('leaves other engines to others', async () => {
    await withFolder(async (directory) => {
      const [one, other] = await Promise.all([
        claimEngines(request(directory, [A, B])),
        claimEngines(request(directory, [C])),
      ]);
      await Promise.all([one.release(), other.release()]);
      expect(await readdir(directory)).toEqual([]);
    });
  });

  it('waits for a session that only says goodbye to its engines', async () => {
    await withFolder(async (directory) => {
      const closing = await claimEngines(request(directory, [A], { push: { ...PUSH, weights: null } }));
      let held = false;
      const next = claimEngines(request(directory, [A], { patienceMs: 20_000 })).then((claim) => {
        held = true;
        return claim;
      });
      await expect(claimEngines(request(directory, [A]))).rejects.toMatchObject({ code: 'WC_UPDATE_BUSY' });
      expect(held).toBe(false);
      await closing.release();
      await (await next).release();
    });
  });

  it('is seen in another process', async () => {
    await withFolder(async (directory) => {
      const other = claimant(
        `await claim([${JSON.stringify(A)}]); console.log('held'); setInterval(() => {}, 1000);`,
        {
          directory,
        },
      );
      await other.said('held');
      await expect(claimEngines(request(directory, [A]))).rejects.toMatchObject({
        code: 'WC_UPDATE_BUSY',
        details: { pid: other.pid },
      });
      await other.kill();
    });
  });

  it('that stands still is not taken for dead', async () => {
    await withFolder(async (directory) => {
      const other = claimant(
        `await claim([${JSON.stringify(A)}]); console.log('held'); setInterval(() => {}, 1000);`,
        {
          directory,
        },
      );
      await other.said('held');
      process.kill(other.pid, 'SIGSTOP');
      const [name] = await readdir(directory);
      await utimes(join(directory, name ?? ''), 1, 1);
      await expect(claimEngines(request(directory, [A]))).rejects.toMatchObject({ code: 'WC_UPDATE_BUSY' });
      await other.kill();
    });
  });
});

it('of many processes that want overlapping engines in every order never two hold one', {
  timeout: LONG,
}, async () => {
  await withFolder(async (directory) => {
    const state = join(directory, 'state');
    await mkdir(state);
    // Each holder makes a file of its own for each of its engines, exclusively: a second holder would find it there.
    const body = `
      import { open, rm } from 'node:fs/promises';
      let held = 0, refused = 0;
      const all = ['a', 'b', 'c', 'd'];
      while (held < 4) {
        const mine = all.filter(() => Math.random() < 0.5).sort(() => Math.random() - 0.5);
        if (mine.length === 0) continue;
        try {
          const taken = await claim(mine.map((name) => 'http://' + name + ':1'), { directory: args.state });
          for (const name of mine) await (await open(args.directory + '/in-' + name, 'wx')).close();
          await new Promise((done) => setTimeout(done, Math.random() * 5));
          for (const name of mine) await rm(args.directory + '/in-' + name);
          await taken.release();
          held += 1;
        } catch (error) {
          if (error.code !== 'WC_UPDATE_BUSY') { console.log('BROKEN', error); process.exit(1); }
          refused += 1;
          await new Promise((done) => setTimeout(done, Math.random() * 20));
        }
      }
      console.log(JSON.stringify({ held, refused }));`;
    const all = Array.from({ length: 5 }, () => claimant(body, { directory, state }));
    const ended = await Promise.all(all.map((one) => one.ended));
    expect(ended.map(({ code, out }) => (code === 0 ? 0 : out))).toEqual(ended.map(() => 0));
    expect(ended.map(({ out }) => JSON.parse(out).held)).toEqual(ended.map(() => 4));
    expect(await readdir(state)).toEqual([]);
  });
});

it('a claim whose holder was killed is taken over by exactly one of many', { timeout: LONG }, async () => {
  await withFolder(async (directory) => {
    const dying = claimant(
      `const { record } = await claim(${JSON.stringify([A, B])});
       await record.ask('pause', ${JSON.stringify([A, B])});
       await record.ask('receive', ${JSON.stringify([A])});
       console.log('asked'); setInterval(() => {}, 1000);`,
      { directory },
    );
    await dying.said('asked');
    await dying.kill();
    const body = `
      try {
        const { found } = await claim([${JSON.stringify(A)}]);
        console.log('held', found.length, found[0]?.engines.map((engine) => engine.state).join());
        setInterval(() => {}, 1000);
      } catch (error) { console.log(error.code); }`;
    const all = Array.from({ length: 6 }, () => claimant(body, { directory }));
    const said = await Promise.all(
      all.map((one) => Promise.race([one.said('held 1').then(() => 'held'), one.ended])),
    );
    const winners = said.filter((one) => one === 'held');
    expect(winners).toHaveLength(1);
    for (const one of said) if (one !== 'held') expect(one).toMatchObject({ out: 'WC_UPDATE_BUSY\n' });
    await Promise.all(all.map((one) => one.kill()));

    // The winner died too: both records are there, and the second engine of the first one is still unsaid.
    const last = await claimEngines(request(directory, [A, B]));
    expect(last.found.map(({ engines }) => engines.map(({ state }) => state))).toEqual([
      ['receiving', 'paused'],
    ]);
    await last.release();
    expect(await readdir(directory)).toHaveLength(1);
  });
});

describe('what a dead push leaves', () => {
  it('is said of each engine until somebody knows more of it', async () => {
    await withFolder(async (directory) => {
      const first = await claimEngines(request(directory, [A, B]));
      first.record.observe({ kind: 'engine', engine: A, state: 'serving-old', reason: null });
      first.record.observe({ kind: 'engine', engine: B, state: 'quarantined', reason: null });
      await first.release(new Map([[B, 'it broke']]));
      expect(await recordsIn(directory)).toMatchObject([
        { left: true, engines: [{ state: 'serving-old' }, { state: 'quarantined', reason: 'it broke' }] },
      ]);

      const elsewhere = await claimEngines(request(directory, [A]));
      expect(elsewhere.found).toEqual([]);
      await elsewhere.release();

      const next = await claimEngines(request(directory, [A, B]));
      expect(next.found).toHaveLength(1);
      next.record.observe({ kind: 'engine', engine: B, state: 'serving-new', reason: null });
      await next.release();
      expect(await readdir(directory)).toEqual([]);
    });
  });

  it('stays when the next push could not learn anything of the engine', async () => {
    await withFolder(async (directory) => {
      const first = await claimEngines(request(directory, [A]));
      await first.record.ask('receive', [A]);
      await first.release();
      const next = await claimEngines(request(directory, [A]));
      await next.release();
      expect(await recordsIn(directory)).toMatchObject([{ engines: [{ state: 'receiving' }] }]);
    });
  });

  it('a line that was not finished announces nothing, a damaged one leaves everything in doubt', async () => {
    await withFolder(async (directory) => {
      const dead = { ...(await thisProcess()), startTicks: 1 };
      const file = join(directory, '1.push');
      const ask = { event: 'ask', what: 'pause', engines: [0] };
      await writeFile(file, `${recordText(dead, [A], [{ event: 'held' }, ask])}{"event":"ask","what":"rec`);
      const claim = await claimEngines(request(directory, [A]));
      expect(claim.found).toMatchObject([{ engines: [{ state: 'paused' }] }]);
      await claim.release();
      await appendFile(file, 'garbage\n');
      const next = await claimEngines(request(directory, [A]));
      expect(next.found).toMatchObject([
        { engines: [{ state: 'receiving', reason: 'its record is damaged' }] },
      ]);
      await next.release();
    });
  });
});

describe('a holder that can not be seen from here', () => {
  const stranger = {
    pid: 1,
    startTicks: 1,
    bootId: 'another host',
    pidNamespace: 'pid:[1]',
    host: 'elsewhere',
  };

  it('lives as long as it touches its record', async () => {
    await withFolder(async (directory) => {
      const file = join(directory, '1.push');
      await writeFile(file, recordText(stranger, [A], [{ event: 'held' }]));
      await expect(claimEngines(request(directory, [A]))).rejects.toMatchObject({
        code: 'WC_UPDATE_BUSY',
        details: { host: 'elsewhere' },
        remedy: expect.stringMatching(
          /^Wait .* ends 60 s after its last sign of life, which was \d s ago\.$/,
        ),
      });
      const silent = Date.now() / 1000 - 61;
      await utimes(file, silent, silent);
      const claim = await claimEngines(request(directory, [A]));
      await claim.release();
    });
  });

  it('and that comes back after it was taken for dead does not go on', async () => {
    await withFolder(async (directory) => {
      const frozen = await claimEngines(request(directory, [A]));
      await frozen.record.ask('pause', [A]);
      // As another host sees it: the process is none of its own, and silent.
      const [name] = await readdir(directory);
      const file = join(directory, name ?? '');
      const text = (await readFile(file, 'utf8')).replace(/"bootId":"./, '"bootId":"x');
      await writeFile(file, text);
      await utimes(file, 1, 1);
      const other = await claimEngines(request(directory, [A]));
      await expect(frozen.record.ask('receive', [A])).rejects.toMatchObject({
        code: 'WC_UPDATE_BUSY',
        message: expect.stringContaining('taken for dead'),
      });
      await other.release();
    });
  });
});

it('whatever else lies in the directory is passed over', async () => {
  await withFolder(async (directory) => {
    const me = await thisProcess();
    await writeFile(join(directory, '1.push'), '');
    await writeFile(join(directory, '2.push'), '{"weightcast":1}\n');
    await writeFile(join(directory, 'notes.txt'), 'mine');
    await mkdir(join(directory, '4.push'));
    await writeFile(join(directory, 'target'), recordText(me, [A], [{ event: 'held' }]));
    await symlink(join(directory, 'target'), join(directory, '5.push'));
    execFileSync('mkfifo', [join(directory, '6.push')]);
    const claim = await claimEngines(request(directory, [A]));
    await claim.release();
    expect((await readdir(directory)).sort()).toEqual(
      ['1.push', '2.push', '4.push', '5.push', '6.push', 'notes.txt', 'target'].sort(),
    );
  });
});

it('a record that can not be read may be the claim of a living push: nothing is taken', async () => {
  await withFolder(async (directory) => {
    const file = join(directory, '3.push');
    await writeFile(file, Buffer.alloc(9 << 20, '{'));
    const refusal = { code: 'WC_STATE_DIR', message: expect.stringContaining(file) };
    await expect(claimEngines(request(directory, [A]))).rejects.toMatchObject(refusal);
    expect(await readdir(directory)).toEqual(['3.push']);
  });
});

it('a fleet of more engines than a record can hold is refused before anything is written', async () => {
  await withFolder(async (directory) => {
    const many = Array.from({ length: 4097 }, (_, index) => `http://10.0.${index >> 8}.${index & 255}:8000`);
    await expect(claimEngines(request(directory, many))).rejects.toMatchObject({ code: 'WC_CONFIG_INVALID' });
    expect(await readdir(directory)).toEqual([]);
    const claim = await claimEngines(request(directory, many.slice(1)));
    await expect(claimEngines(request(directory, [many[4096] as string]))).rejects.toMatchObject({
      code: 'WC_UPDATE_BUSY',
    });
    await claim.release();
  });
});

it('what was observed is written before engines are asked for something on the strength of it', async () => {
  await withFolder(async (directory) => {
    const { record, release } = await claimEngines(request(directory, [A]));
    record.observe({ kind: 'engine', engine: A, state: 'received', reason: null });
    await record.mine();
    const lines = (await readFile(record.file, 'utf8')).trim().split('\n');
    expect(JSON.parse(lines.at(-1) ?? '')).toEqual({ event: 'state', states: { 0: 'received' } });
    await release();
  });
});

it('what was observed is never written after what was asked later', async () => {
  await withFolder(async (directory) => {
    const { record, release } = await claimEngines(request(directory, [A]));
    record.observe({ kind: 'engine', engine: A, state: 'serving-old', reason: null });
    await record.ask('pause', [A]);
    expect(record.engines()).toMatchObject([{ state: 'paused' }]);
    await release();
  });
});

describe('the identity of a process', () => {
  it('is its number and its start', async () => {
    const me = await thisProcess();
    expect(await lifeOf(me, me)).toBe('alive');
    expect(await lifeOf({ ...me, startTicks: me.startTicks - 1 }, me)).toBe('dead');
    expect(await lifeOf({ ...me, pidNamespace: 'pid:[1]' }, me)).toBe('unknown');
    expect(await lifeOf({ ...me, bootId: 'x' }, me)).toBe('unknown');
    // It could not read its own start.
    expect(await lifeOf({ ...me, startTicks: 0 }, me)).toBe('unknown');
    expect(await lifeOf({ ...me, bootId: '' }, { ...me, bootId: '' })).toBe('unknown');
  });

  it('is read also when its name has spaces and parentheses', () => {
    const rest = ['S', ...Array.from({ length: 18 }, (_, index) => index), '4711', '0'].join(' ');
    expect(processStat(`12 (a) b) c) ${rest}`)).toEqual({ state: 'S', startTicks: 4711 });
    expect(processStat('')).toBeNull();
  });
});

it('one engine has one name, however its URL is written', () => {
  const same = [
    'http://localhost:80/',
    'http://127.0.0.1',
    'http://LOCALHOST.',
    'http://[::1]:80',
    'http://127.1.2.3/',
  ];
  expect(new Set(same.map(engineKey)).size).toBe(1);
  const others = ['https://localhost', 'http://localhost:81', 'http://localhost/a', 'http://10.0.0.1'];
  expect(new Set([...same, ...others].map(engineKey)).size).toBe(5);
});
