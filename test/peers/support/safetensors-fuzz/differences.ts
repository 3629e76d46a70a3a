/**
 * Where our reader refuses what the reference (Rust safetensors 0.8.0) takes, on purpose. Each is recognised by what we said and has to be confirmed by
 * a third parser, Python's json. There is no list for the other direction: what the reference refuses, we refuse.
 *
 * 1,200,000 files of seed 20261121 (the reference took 324,866): 27,640 × duplicate key, 6,159 × leading white space, 663 × tensor as a list, 98 × dtype as
 * an object, 199 × number above 2^53, 98 × rank above 64, 23 × long number, 6 × many unknown fields, 3 × long key, and nothing else.
 */
export interface Difference {
  readonly fact: string;
  readonly message: RegExp;
  readonly why: string;
}

export const STRICTER: readonly Difference[] = [
  {
    fact: 'duplicate key',
    message: /./,
    why: 'The format forbids it ("Duplicate keys are disallowed"). The library lets the last tensor, the last metadata and the last unknown field of a name win; two readers of such a file may see two models. (We may stop at another fault of the one that the library forgets.)',
  },
  {
    fact: 'leading white space',
    message: /^the header does not begin with '\{'/,
    why: 'The format says that the header MUST begin with {; the library skips white space before it.',
  },
  {
    fact: 'tensor as a list',
    message: /^'\{' expected/,
    why: 'serde takes the list of the fields of a structure for the structure. The format knows only objects.',
  },
  {
    fact: 'dtype as an object',
    message: /^'"' expected/,
    why: 'serde takes {"F32":null} for the variant F32. The format knows only strings.',
  },
  {
    fact: 'number above 2^53',
    message: /^a number above 2\^53|^a shape too large for any file/,
    why: 'No file is so large; the library takes it in a shape that has no elements. JavaScript can not hold it.',
  },
  {
    fact: 'rank above 64',
    message: /^more than 64 numbers/,
    why: 'torch holds 64 dimensions; it bounds what one tensor costs.',
  },
  {
    fact: 'long number',
    message: /^not a number|^a number expected/,
    why: 'A number of an unknown field with 400 characters or more: nobody reads it, and looking at it is bounded.',
  },
  {
    fact: 'many unknown fields',
    message: /^more than 1000 unknown fields/,
    why: 'Each has to be remembered, so that none comes twice.',
  },
  {
    fact: 'long key',
    message: /^a string too long/,
    why: 'A key is held whole while it is compared: 64 KiB bound it.',
  },
];
