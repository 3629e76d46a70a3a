import { describe, expect, it } from 'vitest';
import { candidatesFor, judge, narrow, toHashJob } from '../../../src/weights/proof.js';
import {
  asFile,
  columnShare,
  digestsOf,
  judged,
  type Matrix,
  type Model,
  matrix,
  ranks,
  report,
  sha256,
  single,
  tinyModel,
  workersOf,
} from './engine.js';

describe('a narrowed plan', () => {
  const first = tinyModel({ seed: 'first' });
  const next = tinyModel({ seed: 'next' });
  const learn = (tpSize: number) => {
    const plan = candidatesFor(asFile(next, '/next').tensors, tpSize);
    return { full: plan, narrow: narrow(plan, judged(first, tpSize, report(workersOf(first, tpSize)))) };
  };

  it('hashes for the next checkpoint only the forms that fitted', () => {
    const { full, narrow } = learn(2);
    const { bytes } = asFile(next, '/next');
    expect(toHashJob(narrow).totalBytes).toBeLessThan(toHashJob(full).totalBytes / 2);
    const verdict = judge(narrow, digestsOf(narrow, { '/next': bytes }), report(workersOf(next, 2)));
    expect(verdict).toMatchObject({ complete: true, mismatched: [], unprovable: [] });
    // Without tensor parallelism every byte is then hashed exactly once.
    expect(toHashJob(learn(1).narrow).totalBytes).toBe(bytes.length);
  });

  it('still finds out an engine that holds the earlier version', () => {
    const { narrow } = learn(2);
    const verdict = judge(
      narrow,
      digestsOf(narrow, { '/next': asFile(next, '/next').bytes }),
      report(workersOf(first, 2)),
    );
    expect(verdict.mismatched).toHaveLength(verdict.total);
  });

  it('keeps every form that had the same hash, since the next weights may tell them apart', () => {
    const zeros = (m: Matrix): Matrix => ({ ...m, elements: m.elements.map((e) => Buffer.alloc(e.length)) });
    const weight = matrix('x', 8, 8);
    const before = new Map([['a.weight', zeros(weight)]]);
    const after = new Map([['a.weight', weight]]);
    const held = (model: Model) =>
      ranks(2).map((rank) => new Map([['a.weight', columnShare(model.get('a.weight') as Matrix, rank, 2)]]));
    const plan = narrow(candidatesFor(asFile(after).tensors, 2), judged(before, 2, report(held(before))));
    const verdict = judge(
      plan,
      digestsOf(plan, { '/model.safetensors': asFile(after).bytes }),
      report(held(after)),
    );
    expect(verdict).toMatchObject({ complete: true });
  });

  it('remembers why a parameter could not be proved', () => {
    const model = new Map([
      ['a.weight', matrix('x', 8, 8)],
      ['b.weight', matrix('y', 8, 8)],
    ]);
    const reported = single({
      'a.weight': sha256([]),
      'b.weight': sha256((model.get('b.weight') as Matrix).elements),
    });
    const plan = narrow(candidatesFor(asFile(model).tensors, 1), judged(model, 1, reported));
    expect(plan.candidates).toHaveLength(1);
    const verdict = judge(plan, digestsOf(plan, { '/model.safetensors': asFile(model).bytes }), reported);
    expect(verdict.unprovable).toMatchObject([
      { parameter: 'a.weight', reason: expect.stringContaining('no bytes') },
    ]);
    expect(verdict.proved).toHaveLength(1);
  });
});
