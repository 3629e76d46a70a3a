/** The dtypes of the safetensors format, and the names that torch (and so every engine) has for them. */

export interface DType {
  /** Name in a safetensors header. */
  readonly name: string;
  /** Attribute of the `torch` module, as engines resolve it; null where torch has none. */
  readonly torchName: string | null;
  /** Bits of one element: 4 and 6 exist. */
  readonly bits: number;
}

const TABLE: readonly (readonly [string, string | null, number])[] = [
  ['BOOL', 'bool', 8],
  ['U8', 'uint8', 8],
  ['I8', 'int8', 8],
  ['F4', 'float4_e2m1fn_x2', 4],
  ['F6_E2M3', null, 6],
  ['F6_E3M2', null, 6],
  ['F8_E5M2', 'float8_e5m2', 8],
  ['F8_E4M3', 'float8_e4m3fn', 8],
  ['F8_E8M0', 'float8_e8m0fnu', 8],
  ['F8_E4M3FNUZ', 'float8_e4m3fnuz', 8],
  ['F8_E5M2FNUZ', 'float8_e5m2fnuz', 8],
  ['I16', 'int16', 16],
  ['U16', 'uint16', 16],
  ['F16', 'float16', 16],
  ['BF16', 'bfloat16', 16],
  ['I32', 'int32', 32],
  ['U32', 'uint32', 32],
  ['F32', 'float32', 32],
  ['C64', 'complex64', 64],
  ['F64', 'float64', 64],
  ['I64', 'int64', 64],
  ['U64', 'uint64', 64],
];

/** Every dtype by its safetensors name. */
export const DTYPES: ReadonlyMap<string, DType> = new Map(
  TABLE.map(([name, torchName, bits]) => [name, { name, torchName, bits }]),
);

/** The same, where a number stands for a dtype. */
export const DTYPE_LIST: readonly DType[] = [...DTYPES.values()];
