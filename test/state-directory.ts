/**
 * Claims and journals of one test file, also of processes that it kills: away from the user's own, and from those that another file left of engines under an
 * address that came free since.
 */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll } from 'vitest';

const directory = mkdtempSync(join(tmpdir(), 'weightcast-state-'));
process.env['WEIGHTCAST_STATE_DIR'] = directory;
afterAll(() => rmSync(directory, { recursive: true, force: true }));
