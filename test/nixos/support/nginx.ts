import type { Location, System } from "./evaluate.ts";

export interface NginxPlace {
  /** As nginx's `user` has it, where it is started by root. */
  readonly user?: string;
  /** A line for each request. */
  readonly accessLog?: string;
}

/** Protocol, method and path of a request, its status, whether the memory answered (`HIT`), the file it was sent. */
const LOG_FORMAT =
  "$server_protocol $request_method $request_uri $status $upstream_cache_status $upstream_http_x_accel_redirect";

/**
 * nginx's whole configuration as NixOS would write it from these options, with all files in a folder, and with the
 * certificate tls.pem and tls.key there.
 */
export function nginxConfiguration(
  nginx: System["nginx"],
  domain: string,
  folder: string,
  { user = "nobody nogroup", accessLog }: NginxPlace = {},
): string {
  const host = nginx.virtualHosts[domain];
  if (!host) throw new Error(`there is no virtual host ${domain}`);
  const temporary = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"];
  return `
${process.getuid?.() === 0 ? `user ${user};` : ""}
daemon off;
pid ${folder}/pid;
events { }
http {
  log_format requests '${LOG_FORMAT}';
  access_log ${accessLog === undefined ? "off" : `${accessLog} requests`};
${temporary.map((name) => `  ${name}_temp_path ${folder}/${name};`).join("\n")}
  server {
    listen 127.0.0.1:8443 ssl ${host.http2 ? "http2" : ""};
    server_name ${domain};
    ssl_certificate ${folder}/tls.pem;
    ssl_certificate_key ${folder}/tls.key;
${Object.entries(host.locations)
  .map(([path, location]) => locationText(path, location))
  .join("\n")}
  }
  ${nginx.appendHttpConfig.replaceAll("/var/cache/nginx", folder)}
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
