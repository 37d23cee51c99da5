/** How a run can end. */
export interface EndSpec {
  /** Of the process. Each other end than success has one of its own. */
  readonly exitCode: number;
  /** Nothing is wrong with host and agent: not a failure of the unit. */
  readonly expected: boolean;
  readonly description: string;
}

/** Every end of a run. Monitoring may rely on names and codes. */
export const ENDS = {
  deployed: { exitCode: 0, expected: true, description: "The wanted build runs and is healthy." },
  "up-to-date": { exitCode: 0, expected: true, description: "The wanted build was there already." },
  "will-boot": { exitCode: 0, expected: true, description: "The wanted build takes effect at the next boot." },
  rebooting: { exitCode: 0, expected: true, description: "The host was told to reboot into the wanted build." },
  "dry-activated": { exitCode: 0, expected: true, description: "It was shown what the switch would do." },
  "rolled-back-by-hand": { exitCode: 0, expected: true, description: "The command rollback did its work." },
  resumed: { exitCode: 0, expected: true, description: "Nothing is left of earlier runs." },
  shown: { exitCode: 0, expected: true, description: "The status was printed, or the settings are good." },

  internal: { exitCode: 1, expected: false, description: "A fault of the agent; the message says where." },
  settings: { exitCode: 2, expected: false, description: "The command line or the settings cannot be used." },
  "key-file": { exitCode: 3, expected: false, description: "The file with the API key cannot be used." },
  state: { exitCode: 4, expected: false, description: "The state directory cannot be read or written." },

  held: { exitCode: 10, expected: true, description: "The wanted build is held back, as it failed elsewhere." },
  waiting: { exitCode: 11, expected: true, description: "The wave of this host has not come yet." },
  older: { exitCode: 12, expected: true, description: "The wanted build is older than the last one deployed." },
  "bad-build": { exitCode: 13, expected: true, description: "The wanted build failed on this host before." },
  "nothing-built": { exitCode: 14, expected: true, description: "There is no successful build for this host." },
  locked: { exitCode: 15, expected: true, description: "Another run of the agent is at work." },
  busy: { exitCode: 16, expected: true, description: "The host was busy all the time; the next run tries again." },

  unreachable: { exitCode: 20, expected: false, description: "The server cannot be reached, or asks for patience." },
  unauthorized: { exitCode: 21, expected: false, description: "The server does not accept the API key." },
  "not-found": { exitCode: 22, expected: false, description: "The project is not there, or not for this key." },
  "bad-answer": { exitCode: 23, expected: false, description: "The server's answer cannot be understood." },

  "missing-path": { exitCode: 30, expected: false, description: "A path of the closure is in no cache." },
  "bad-signature": { exitCode: 31, expected: false, description: "A path is not signed by a key that is trusted." },
  "disk-full": { exitCode: 32, expected: false, description: "The closure does not fit on the disk." },
  "download-failed": { exitCode: 33, expected: false, description: "The download failed for another reason." },

  "rolled-back": { exitCode: 40, expected: false, description: "The switch failed; the system before runs again." },
  unhealthy: { exitCode: 41, expected: false, description: "The new build was unhealthy; the system before runs." },
  failed: { exitCode: 42, expected: false, description: "The build failed, and rollback is off or impossible." },
  "rollback-failed": { exitCode: 43, expected: false, description: "The rollback failed too: look at the host." },
  "profile-failed": { exitCode: 44, expected: false, description: "The profile could not be set; all is as before." },
  "dry-activate-failed": { exitCode: 45, expected: false, description: "The trial failed; nothing was changed." },
  "nothing-before": { exitCode: 46, expected: false, description: "There is no system before to go back to." },
  "reboot-failed": { exitCode: 47, expected: false, description: "The host could not be told to reboot." },
  "booted-other": { exitCode: 48, expected: false, description: "The host booted another system than the wanted one." },

  interrupted: { exitCode: 50, expected: false, description: "A signal ended the run; the next one goes on." },
} as const satisfies Readonly<Record<string, EndSpec>>;

export type End = keyof typeof ENDS;
