import { afterAll, beforeAll, describe, it } from 'vitest';
import { type EndingName, endings, expectEnds, type StateName, states } from './endings.js';
import { describeHandles } from './handles.js';
import { fetchNode, type otherNodes } from './nodes.js';
import { Others } from './others.js';

/** Every state of the addon × every ending of its process, and every handle, on one Node; `null` is the Node that runs the tests. */
export function describeNode(version: (typeof otherNodes)[number] | null): void {
  let node = process.execPath;
  let others: Others;
  beforeAll(async () => {
    if (version !== null) node = await fetchNode(version);
    others = new Others();
  }, 400_000);
  afterAll(() => others[Symbol.asyncDispose]());

  const name = `Node ${version ?? process.versions.node}`;
  describe.each(Object.keys(states) as StateName[])(`${name}, %s`, (state) => {
    it.each(Object.keys(endings) as EndingName[])('%s', async (ending) => {
      const { frames } = states[state];
      if (frames === null) return expectEnds(state, ending, { node });
      return others.during(frames, (uniqueId) =>
        expectEnds(state, ending, { node, env: { WEIGHTCAST_TEST_UNIQUE_ID: uniqueId } }),
      );
    });
  });
  describe(`${name}, handles`, () => describeHandles(() => node));
}
