import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { crossCheck, lacksAdminRoutes } from '../../../src/engines/vllm/cross-check.js';
import { selectDialect } from '../../../src/engines/vllm-native/dialects.js';
import { compareVersions, parseVersion } from '../../../src/engines/vllm-native/version.js';
import { WeightcastError } from '../../../src/errors.js';
import { routes, VERSIONS, type Version } from './recordings.js';

const capabilities = (version: string) => selectDialect(version).dialect.capabilities;

/** The table of contracts/vllm.md, one line a measured version. */
const TABLE: Readonly<Record<Version, string>> = {
  '0.16.0': 'one-shot   update store  – –       –        –        queue  lies early',
  '0.18.1': 'one-shot   update store  – –       –        –        queue  –',
  '0.20.2': 'one-shot   update store  – –       –        –        queue  –',
  '0.22.1': 'three-step update store  – –       –        –        queue  –',
  '0.24.0': 'three-step update store  – restore –        –        queue  –',
  '0.27.1': 'three-step update store  v restore –        success  queue  –',
  '0.28.0': 'three-step init   store  v restore –        success  queue  –',
  '0.30.0': 'three-step init   inline v restore –        success  queue  –',
  '0.32.0': 'three-step init   inline v restore checker  success  queue  –',
  '0.33.0': 'three-step init   inline v restore checker  success  refuse –',
};

describe('the dialect', () => {
  it.each(VERSIONS)('of the measured version %s is what the sheet says', (version) => {
    const { dialect, notes } = selectDialect(version);
    const c = dialect.capabilities;
    const [rounds, packedIn, uniqueId, weightVersion, restore, checker, success, paused, lies, early] =
      TABLE[version].split(/ +/);
    expect(c).toEqual({
      rounds,
      packedIn,
      uniqueId,
      weightVersion: weightVersion === 'v',
      restoresByEmptyRound: restore === 'restore',
      weightChecker: checker === 'checker',
      shutdownTransfer: checker === 'checker',
      resetSaysSuccess: success === 'success',
      newRequestsWhilePaused: paused,
      isPausedLiesAfterKeep: lies === 'lies',
      updateAnswersEarly: early === 'early',
      wire: 'vllm',
      diskLoad: true,
    });
    expect(notes).toEqual([]);
  });

  it.each([
    ['0.17.0', { isPausedLiesAfterKeep: false, updateAnswersEarly: true, rounds: 'one-shot' }],
    ['0.19.1', { rounds: 'one-shot' }],
    ['0.21.0', { rounds: 'three-step', restoresByEmptyRound: false }],
    ['0.23.0', { restoresByEmptyRound: false }],
    ['0.25.1', { restoresByEmptyRound: true, resetSaysSuccess: false }],
    ['0.26.0', { resetSaysSuccess: true, weightVersion: false }],
    ['0.29.0', { packedIn: 'init', uniqueId: 'store' }],
    ['0.30.1', { uniqueId: 'store' }],
    ['0.31.0', { uniqueId: 'store', weightChecker: false }],
  ])('of %s, between measured versions, has %o', (version, expected) => {
    expect(capabilities(version)).toMatchObject(expected);
  });

  it.each([
    ['0.16.0', 'update'],
    ['0.20.2', 'update'],
    ['0.21.0', 'start'],
    ['0.24.0', 'start'],
    ['0.25.0', 'nowhere'],
    ['0.33.0', 'nowhere'],
  ])('of %s takes is_checkpoint_format in: %s', (version, where) => {
    expect(selectDialect(version).dialect.checkpointFormatIn).toBe(where);
  });

  it.each(['0.32.0+cpu', 'v0.32.0', '0.32.1rc1.dev3', '0.32.1.dev17+g1a2b3c4d.cu130', '0.32'])(
    'of %s is that of 0.32',
    (version) => {
      expect(selectDialect(version)).toEqual(selectDialect('0.32.0'));
    },
  );

  it.each(['0.34.0', '0.40.2+cpu', '1.0.0'])(
    'of %s, newer than the table, is the newest one, and a note says so',
    (version) => {
      const { dialect, notes } = selectDialect(version);
      expect(dialect).toEqual(selectDialect('0.33.0').dialect);
      expect(notes).toHaveLength(1);
      expect(notes[0]).toContain(version);
      expect(notes[0]).toContain('0.33');
    },
  );

  it('of a patch release of the newest row needs no note', () => {
    expect(selectDialect('0.33.4').notes).toEqual([]);
  });

  it.each(['0.15.1', '0.9.2', '0.1.dev1+gabcdef', 'dev', '', '0', `${'9'.repeat(400)}`])(
    'of %j is refused with WC_ENGINE_VERSION',
    (version) => {
      try {
        selectDialect(version, 'http://e');
        expect.unreachable();
      } catch (error) {
        expect(error).toBeInstanceOf(WeightcastError);
        expect(error).toMatchObject({ code: 'WC_ENGINE_VERSION', engine: 'http://e' });
        expect(String(error).length).toBeLessThan(300);
      }
    },
  );
});

describe('the routes of a server', () => {
  const paths = (version: Version) => new Set(Object.keys(routes(version)));

  it.each(VERSIONS)('of %s agree with its row', (version) => {
    const selection = selectDialect(version);
    expect(lacksAdminRoutes(paths(version))).toBe(false);
    expect(crossCheck(selection, paths(version))).toEqual(selection);
  });

  it('take away a capability that they lack, with a note', () => {
    const without = paths('0.32.0');
    without.delete('/weight_checker');
    const { dialect, notes } = crossCheck(selectDialect('0.32.0'), without);
    expect(dialect.capabilities).toMatchObject({ weightChecker: false, wire: 'vllm' });
    expect(notes).toEqual(['the server does not list /weight_checker, which its version has']);
  });

  it.each(['/init_weight_transfer_engine', '/update_weights', '/finish_weight_update'])(
    'without %s leave only files to update it by',
    (route) => {
      const without = paths('0.28.0');
      without.delete(route);
      const { dialect, notes } = crossCheck(selectDialect('0.28.0'), without);
      expect(dialect.capabilities.wire).toBe(null);
      expect(notes.join('\n')).toMatch(new RegExp(`${route}.*\\n.*files only`));
    },
  );

  it('that contradict the version leave only files: which bodies it takes is not found out by trying', () => {
    const { dialect, notes } = crossCheck(selectDialect('0.20.2'), paths('0.22.1'));
    expect(dialect.capabilities.wire).toBe(null);
    expect(notes.join('\n')).toContain('/start_weight_update, which its version does not have');
  });

  it('without any admin route say that development mode is off', () => {
    expect(lacksAdminRoutes(new Set(['/health', '/version', '/v1/models', '/v1/completions']))).toBe(true);
  });
});

describe('version strings', () => {
  it('are ordered by number, not by text', () => {
    const sorted = ['0.9.0', '0.16.0', '0.30.0', '0.30.1', '0.100.0', '1.0.0'].map(
      (text) => parseVersion(text)!,
    );
    expect(sorted.toSorted(compareVersions)).toEqual(sorted);
  });

  it('of any shape never throw', () => {
    fc.assert(fc.property(fc.string(), (text) => void parseVersion(text)));
  });

  it('with any suffix keep their numbers', () => {
    const number = fc.integer({ min: 0, max: 999_999 });
    fc.assert(
      fc.property(
        number,
        number,
        number,
        fc.constantFrom('', '+cpu', 'rc1', '.dev3+gabc', '.post1'),
        (a, b, c, suffix) => {
          expect(parseVersion(`${a}.${b}.${c}${suffix}`)).toEqual({ major: a, minor: b, patch: c });
        },
      ),
    );
  });
});
