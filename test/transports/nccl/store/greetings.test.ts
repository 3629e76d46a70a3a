import { afterEach, beforeEach, expect, test, vi } from 'vitest';
import { Greetings } from '../../../../src/transports/nccl/store/greetings.js';

beforeEach(() => void vi.useFakeTimers());
afterEach(() => void vi.useRealTimers());

test('each connection has its own time, though one timer serves all', () => {
  const refused: string[] = [];
  const greetings = new Greetings(1_000);
  const connection = (name: string) => ({ refuse: () => void refused.push(name) });
  greetings.expect(connection('first'));
  vi.advanceTimersByTime(600);
  greetings.expect(connection('second'));
  expect(vi.getTimerCount()).toBe(1);
  vi.advanceTimersByTime(400);
  expect(refused).toEqual(['first']);
  vi.advanceTimersByTime(599);
  expect(refused).toEqual(['first']);
  vi.advanceTimersByTime(1);
  expect(refused).toEqual(['first', 'second']);
  expect(vi.getTimerCount()).toBe(0);
});

test('who has greeted is not refused, and nobody is waited for then', () => {
  const greetings = new Greetings(1_000);
  const worker = { refuse: vi.fn() };
  greetings.expect(worker);
  greetings.delete(worker);
  expect(vi.getTimerCount()).toBe(0);
  vi.advanceTimersByTime(5_000);
  expect(worker.refuse).not.toHaveBeenCalled();
});

test('the refusal says how long was waited', () => {
  const greetings = new Greetings(50);
  const silent = { refuse: vi.fn() };
  greetings.expect(silent);
  vi.advanceTimersByTime(50);
  expect(silent.refuse).toHaveBeenCalledWith('no preamble for 50 ms');
});
