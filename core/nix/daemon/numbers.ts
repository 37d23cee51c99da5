/** First word of the client's and of the daemon's greeting. */
export const CLIENT_MAGIC = 0x6e697863n;
export const DAEMON_MAGIC = 0x6478696fn;

/** Versions travel as `major << 8 | minor`; there is one major so far. */
export const PROTOCOL_MAJOR = 1;

/** 1.34 is what Nix 2.8 speaks: the oldest daemon we work with. */
export const PROTOCOL_MINOR_MIN = 34;
export const PROTOCOL_MINOR_MAX = 38;

/** What a request begins with. */
export const Operation = {
  isValidPath: 1,
  ensurePath: 10,
  addTempRoot: 11,
  addIndirectRoot: 12,
  findRoots: 14,
  setOptions: 19,
  collectGarbage: 20,
  queryPathInfo: 26,
  queryPathFromHashPart: 29,
  queryValidPaths: 31,
  buildDerivation: 36,
  addSignatures: 37,
  narFromPath: 38,
  addToStoreNar: 39,
  queryMissing: 40,
  addMultipleToStore: 44,
  buildPathsWithResults: 46,
  addPermRoot: 47,
} as const;

export type OperationName = keyof typeof Operation;

/** What precedes the answer: messages, activities, and at last either `last` or `error`. */
export const FrameCode = {
  last: 0x616c7473n,
  error: 0x63787470n,
  message: 0x6f6c6d67n,
  startActivity: 0x53545254n,
  stopActivity: 0x53544f50n,
  result: 0x52534c54n,
} as const;

export const Verbosity = {
  error: 0,
  warn: 1,
  notice: 2,
  info: 3,
  talkative: 4,
  chatty: 5,
  debug: 6,
  vomit: 7,
} as const;

export const ActivityType = {
  copyPath: 100,
  fileTransfer: 101,
  realise: 102,
  copyPaths: 103,
  builds: 104,
  build: 105,
  optimiseStore: 106,
  verifyPaths: 107,
  substitute: 108,
  queryPathInfo: 109,
  postBuildHook: 110,
  buildWaiting: 111,
  fetchTree: 112,
} as const;

export const ResultType = {
  buildLogLine: 101,
  setPhase: 104,
  progress: 105,
  setExpected: 106,
  postBuildLogLine: 107,
} as const;
