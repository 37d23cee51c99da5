/** The number of `bytea` in `pg_type`, the same in every PostgreSQL. */
const BYTEA_OID = 17;

/**
 * A value for a parameter of type `bytea[]` (`${byteaArray(values)}::bytea[]`), in the binary format of PostgreSQL
 * (`array_recv` in its source). The driver would write a list as text: two characters a byte, three times in memory.
 * For what may be large; a list of hashes can be given as it is.
 */
export function byteaArray(values: readonly Uint8Array[]): Uint8Array {
  // Dimensions, whether there are nulls, the type; then the length and the first index of the one dimension.
  const header = values.length === 0 ? [0, 0, BYTEA_OID] : [1, 0, BYTEA_OID, values.length, 1];
  const length = values.reduce((sum, value) => sum + 4 + value.length, 4 * header.length);
  const bytes = new Uint8Array(length);
  const view = new DataView(bytes.buffer);
  let offset = 0;
  const writeInt32 = (number: number) => {
    view.setInt32(offset, number);
    offset += 4;
  };
  for (const field of header) writeInt32(field);
  for (const value of values) {
    writeInt32(value.length);
    bytes.set(value, offset);
    offset += value.length;
  }
  return bytes;
}
