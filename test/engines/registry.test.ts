import { describe, expect, it } from 'vitest';
import { createHttpClient } from '../../src/engines/http.js';
import { backendNames, connectEngine, parseEngine } from '../../src/engines/registry.js';
import { WeightcastError } from '../../src/errors.js';
import { target } from './server.js';

function refused(text: string): WeightcastError {
  try {
    parseEngine(text);
  } catch (error) {
    expect(error).toBeInstanceOf(WeightcastError);
    expect((error as WeightcastError).code).toBe('WC_CONFIG_INVALID');
    return error as WeightcastError;
  }
  return expect.unreachable(`${text} was accepted`);
}

describe('parseEngine', () => {
  it.each([
    ['vllm=http://127.0.0.1:8000', 'http://127.0.0.1:8000'],
    ['http://127.0.0.1:8000', 'http://127.0.0.1:8000'],
    ['  vllm=http://127.0.0.1:8000/ ', 'http://127.0.0.1:8000'],
    ['vllm=https://Gateway.example/engines/3//', 'https://gateway.example/engines/3'],
    ['vllm=http://[::1]:8000', 'http://[::1]:8000'],
    ['vllm=http://host:80', 'http://host'],
  ])('reads %s', (text, url) => {
    expect(parseEngine(text)).toEqual({
      id: url,
      backend: 'vllm',
      url,
      headers: {},
      apiKey: null,
      workers: null,
      inferenceUrl: null,
      parameters: {},
    });
  });

  it('takes what follows the address', () => {
    expect(parseEngine('vllm=http://h:1/p,workers=4,inference=http://g:2/')).toMatchObject({
      id: 'http://h:1/p',
      workers: 4,
      inferenceUrl: 'http://g:2',
    });
    expect(refused('http://h:1,workers=0').message).toContain('workers=0');
    expect(refused('http://h:1,workers').message).toContain('NAME=VALUE');
    expect(refused('http://h:1,workers=1,workers=2').message).toContain('twice');
    expect(refused('http://h:1,wokers=1').message).toContain("unknown 'wokers'; known: workers, inference");
  });

  it('takes the key, the headers and the dialect from beside the address', () => {
    const engine = parseEngine('http://h:1', { backend: 'vllm', apiKey: 'k', headers: { 'x-a': '1' } });
    expect(engine).toMatchObject({ backend: 'vllm', apiKey: 'k', headers: { 'x-a': '1' } });
  });

  it('names the known dialects when one is unknown', () => {
    expect(refused('tgi=http://h').message).toContain("'tgi'; known: vllm");
    expect(refused('constructor=http://h').message).toContain('known: vllm');
    expect(() => parseEngine('http://h', { backend: '__proto__' })).toThrow('known: vllm');
    expect(backendNames).toEqual(expect.arrayContaining(['vllm', 'prime-rl']));
  });

  it.each(['localhost:8000', '127.0.0.1:8000', 'vllm=host', 'ftp://h', 'vllm=', '', 'vllm=unix:/run/x'])(
    'shows how to write it when %j has no http scheme',
    (text) => {
      expect(refused(text).message).toContain('vllm=http://127.0.0.1:8000');
    },
  );

  it('refuses credentials in the URL without repeating them, whatever else is wrong', () => {
    for (const text of [
      'http://user:hunter2@h:1',
      'vllm=http://user:hunter2@h:1/?a=b#c',
      'http://user:hunter2@h:99999',
    ]) {
      const { message } = refused(text);
      expect(message).not.toContain('hunter2');
    }
    expect(refused('http://u:p@h').message).toContain('--api-key-env');
  });

  it.each(['http://h/?a=b', 'http://h/#x', 'http://h:0', 'http://', 'http://h:99999'])(
    'refuses %s',
    (text) => {
      refused(text);
    },
  );
});

describe('connectEngine', () => {
  it('refuses a dialect that it does not know', async () => {
    await using http = createHttpClient();
    await expect(connectEngine(http, target('http://127.0.0.1:1', { backend: 'tgi' }))).rejects.toThrow(
      'known: vllm',
    );
  });
});
