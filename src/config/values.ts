/** Values that options have. */
import { z } from 'zod';

export const text = z.string().min(1, 'must not be empty').max(4096, 'is longer than 4096 characters');
export const whole = (low: number, high: number) =>
  z
    .number()
    .refine(
      (value) => Number.isInteger(value) && value >= low && value <= high,
      `must be a whole number from ${low} to ${high}`,
    );
export const envName = text.regex(/^[A-Za-z_][A-Za-z0-9_]*$/, 'must be the name of an environment variable');
export const headerName = z
  .string()
  .regex(/^[A-Za-z0-9!#$%&'*+.^_`|~-]{1,128}$/, 'is not a valid header name');
export const headerValue = z
  .string()
  .max(8192, 'is longer than 8192 characters')
  .regex(/^[\t\x20-\x7e]*$/, 'must be printable ASCII on one line');
