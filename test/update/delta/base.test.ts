import { describe, expect, it } from 'vitest';
import { type BaseFacts, evidenceOf } from '../../../src/update/delta/base.js';

const facts: BaseFacts = {
  suspect: false,
  remembered: false,
  saysVersion: null,
  baseVersion: null,
  checker: true,
  verify: 'auto',
};
const kind = (more: Partial<BaseFacts>) => evidenceOf({ ...facts, ...more }).kind;

describe('whether an engine holds the base', () => {
  it('is asked of its weight checker where nothing else is known', () => {
    expect(kind({})).toBe('ask');
    expect(kind({ verify: 'none' })).toBe('ask');
    expect(kind({ verify: 'fingerprint' })).toBe('ask');
  });

  it('is never so for one that was found paused or half-updated, whatever it says', () => {
    expect(kind({ suspect: true, remembered: true, saysVersion: 'v', baseVersion: 'v' })).toBe('other');
  });

  it('is not so for one that says another weight version, also when the session remembers it otherwise', () => {
    expect(kind({ saysVersion: 'w', baseVersion: 'v', remembered: true })).toBe('other');
  });

  it('is known of one to which this session gave it, unless a digest is asked for', () => {
    expect(kind({ remembered: true })).toBe('known');
    expect(kind({ remembered: true, verify: 'digest' })).toBe('ask');
  });

  it('is believed from a weight version where there is no checker, or no digest is wanted', () => {
    const tagged = { saysVersion: 'v', baseVersion: 'v' };
    expect(kind({ ...tagged })).toBe('ask');
    expect(kind({ ...tagged, verify: 'fingerprint' })).toBe('known');
    expect(kind({ ...tagged, verify: 'none' })).toBe('known');
    expect(kind({ ...tagged, checker: false })).toBe('known');
  });

  it('is not assumed where nothing can prove it', () => {
    expect(kind({ checker: false })).toBe('other');
    expect(kind({ checker: false, saysVersion: 'v' })).toBe('other');
    expect(kind({ checker: false, baseVersion: 'v' })).toBe('other');
  });
});
