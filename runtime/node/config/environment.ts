/** What the process was started with. Everything else of the server takes its settings as arguments. */
export function processEnvironment(): NodeJS.ProcessEnv {
  return process.env;
}

/** The folders in which programs that we start are looked up. */
export function searchPath(): string {
  return process.env.PATH ?? "/usr/local/bin:/usr/bin:/bin";
}

/** Where the machine keeps its certificates and proxies; git must use the same. */
const NETWORK_NAMES = [
  "GIT_SSL_CAINFO",
  "HTTPS_PROXY",
  "HTTP_PROXY",
  "NIX_SSL_CERT_FILE",
  "NO_PROXY",
  "SSL_CERT_DIR",
  "SSL_CERT_FILE",
  "http_proxy",
  "https_proxy",
  "no_proxy",
];

/** ssh takes its home from the system's list of users, so that the operator's keys are switched off one by one. */
const SSH_OPTIONS = [
  "BatchMode=yes",
  "ConnectTimeout=10",
  "IdentitiesOnly=yes",
  "IdentityFile=none",
  "IdentityAgent=none",
  "StrictHostKeyChecking=accept-new",
];

export interface GitPlaces {
  /** The transports that git may use, separated by colons. */
  readonly protocols: string;
  /** An empty folder: the operator's passwords (.netrc) are in the real one. */
  readonly home: string;
  /** Where keys of ssh servers are kept. */
  readonly knownHostsFile: string;
  /** Further values for ssh's `-o`. */
  readonly sshOptions: readonly string[];
}

/** git's environment: no question to a terminal, nobody's own settings, keys or passwords, only these transports. */
export function gitEnvironment({ protocols, home, knownHostsFile, sshOptions }: GitPlaces): NodeJS.ProcessEnv {
  const environment: NodeJS.ProcessEnv = {
    PATH: searchPath(),
    HOME: home,
    LC_ALL: "C",
    GIT_ALLOW_PROTOCOL: protocols,
    GIT_CONFIG_NOSYSTEM: "1",
    GIT_CONFIG_GLOBAL: "/dev/null",
    GIT_TERMINAL_PROMPT: "0",
    GIT_ASKPASS: "true",
    SSH_ASKPASS: "true",
    GIT_SSH_COMMAND: sshCommand([...SSH_OPTIONS, knownHosts(knownHostsFile), ...sshOptions]),
  };
  for (const name of NETWORK_NAMES) if (process.env[name] !== undefined) environment[name] = process.env[name];
  return environment;
}

/** ssh_config(5): a value with spaces stands in double quotes, and a percent sign is doubled. */
function knownHosts(path: string): string {
  return `UserKnownHostsFile="${path.replaceAll("%", "%%")}"`;
}

/** git gives this to a shell. */
function sshCommand(options: readonly string[]): string {
  const quoted = options.map((option) => `-o '${option.replaceAll("'", "'\\''")}'`);
  return ["ssh", "-F", "/dev/null", ...quoted].join(" ");
}
