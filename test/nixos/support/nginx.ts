import type { Location, System } from "./evaluate.ts";

export interface NginxPlace {
  /** As nginx's `user` has it, where it is started by root. */
  readonly user?: string;
  /** A line for each request. */
  readonly accessLog?: string;
  /** What `listen` is told. */
  readonly listen?: string;
  /** More of the level `http`. */
  readonly http?: string;
}

/** Protocol, method and path of a request, its status, and whether the memory answered (`HIT`). */
const LOG_FORMAT = "$server_protocol $request_method $request_uri $status $upstream_cache_status";
/** Where the module has nginx write down what it sends. */
export const LOG_PATH = "/run/gradient-nginx";
/** The file that it was sent, where nginx sends any. */
const FILE = "$gradient_located";

/**
 * nginx's whole configuration as NixOS would write it from these options, with all files in a folder, and with the
 * certificate tls.pem and tls.key there.
 */
export function nginxConfiguration(
  nginx: System["nginx"],
  domain: string,
  folder: string,
  { user = "nobody nogroup", accessLog, listen, http = "" }: NginxPlace = {},
): string {
  const host = nginx.virtualHosts[domain];
  if (!host) throw new Error(`there is no virtual host ${domain}`);
  const sendsFiles = nginx.appendHttpConfig.includes(FILE);
  const temporary = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"];
  return `
${process.getuid?.() === 0 ? `user ${user};` : ""}
daemon off;
pid ${folder}/pid;
events { }
http {
  log_format requests '${LOG_FORMAT}${sendsFiles ? ` ${FILE}` : ""}';
  access_log ${accessLog === undefined ? "off" : `${accessLog} requests`};
${temporary.map((name) => `  ${name}_temp_path ${folder}/${name};`).join("\n")}
  ${http}
  ${nginx.commonHttpConfig}
${Object.entries(nginx.upstreams)
  .map(([name, { servers, extraConfig }]) => {
    const lines = Object.keys(servers).map((address) => `server ${address};`);
    return `  upstream ${name} { ${lines.join(" ")} ${extraConfig} }`;
  })
  .join("\n")}
  server {
    listen ${listen ?? `127.0.0.1:8443 ssl ${host.http2 ? "http2" : ""}`};
    server_name ${domain};
${listen === undefined ? `    ssl_certificate ${folder}/tls.pem;\n    ssl_certificate_key ${folder}/tls.key;` : ""}
${host.extraConfig}
${Object.entries(host.locations)
  .map(([path, location]) => locationText(path, location))
  .join("\n")}
  }
  ${nginx.appendHttpConfig.replaceAll("/run/nginx", folder)}
}
`;
}

function locationText(path: string, location: Location): string {
  const lines = [
    location.proxyPass === null ? "" : `proxy_pass ${location.proxyPass};`,
    location.root === null ? "" : `root ${location.root};`,
    location.alias === null ? "" : `alias ${location.alias};`,
    location.tryFiles === null ? "" : `try_files ${location.tryFiles};`,
    location.return === null ? "" : `return ${location.return};`,
    location.extraConfig,
  ];
  return `    location ${path} {\n${lines.filter((line) => line !== "").join("\n")}\n    }`;
}
