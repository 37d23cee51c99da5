/** Bytes asked of a source at once: a length that the daemon merely claims never allocates more than this. */
export const READ_BYTES_MAX: number = 64 * 1024;

/** Names, paths, hashes, signatures, JSON of a realisation. The longest met in practice is a few KiB. */
export const TEXT_BYTES_MAX: number = 1024 * 1024;

/** What is kept of one log line or message; a longer one is cut, because a build must not fail for a long line. */
export const LOG_TEXT_BYTES_MAX: number = 64 * 1024;

/** What is kept of the text of an error: it holds the last log lines of the build. */
export const ERROR_TEXT_BYTES_MAX: number = 256 * 1024;

/** Fields of one activity or result; Nix sends at most five. */
export const FIELDS_MAX = 64;
export const TRACES_MAX = 1_000;

/** Items of one list: paths of a large store, its roots, what a collection deleted. */
export const ITEMS_MAX = 2_000_000;

/** One frame, and one whole answer, as kept in memory. 128 MiB is a list of a million store paths. */
export const FRAME_BYTES_MAX: number = 4 * 1024 * 1024;
export const ANSWER_BYTES_MAX: number = 128 * 1024 * 1024;

/** One frame of data sent to the daemon. */
export const DATA_FRAME_BYTES_MAX: number = 64 * 1024;
