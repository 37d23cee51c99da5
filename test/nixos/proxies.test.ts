import { spawnSync } from "node:child_process";
import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { nginxAvailable } from "#test/e2e/proxy.ts";
import { makeCertificate } from "#test/support/certificate.ts";
import { withTemporaryFolder } from "#test/support/temporary-folder.ts";
import { canEvaluate, evaluateSystems } from "./support/evaluate.ts";
import { nginxConfiguration } from "./support/nginx.ts";
import { MINIMAL, sound, unitOf, withServer } from "./support/systems.ts";

const ROOT = join(import.meta.dirname, "../..");
const DOMAIN = "gradient.example.com";
const CADDY = `services.gradient.reverseProxy = {
  nginx.enable = lib.mkForce false;
  caddy.enable = true;
};`;

const systems = {
  nginx: withServer(MINIMAL),
  plain: withServer(MINIMAL, "services.gradient.useTls = false;"),
  ownCertificate: withServer(MINIMAL, "services.gradient.reverseProxy.nginx.manageTls = false;"),
  noPages: withServer(MINIMAL, "services.gradient.frontend.enable = lib.mkForce false;"),
  everywhere: withServer(MINIMAL, `services.gradient.listenAddr = "::"; services.gradient.port = 3210;`),
  shared: withServer(MINIMAL, `services.gradient.storage.sharedPath = "/srv/storage";`),
  none: withServer(MINIMAL, "services.gradient.reverseProxy.nginx.enable = lib.mkForce false;"),
  own: `({ inputs, pkgs, ... }: {
    imports = [ inputs.gradient.nixosModules.default { ${MINIMAL} } ];
    services.nginx.virtualHosts."own.example.com".locations."/".root =
      "\${pkgs.gradient-frontend}/share/gradient-frontend";
  })`,
  caddy: withServer(MINIMAL, CADDY),
  caddyHost: withServer(
    MINIMAL,
    CADDY,
    `services.gradient.reverseProxy.caddy = { useACMEHost = "example.com"; extraConfig = "encode zstd gzip"; };`,
  ),
  caddyMisspelt: withServer(MINIMAL, CADDY, `services.gradient.reversePorxy.caddy.extraConfig = "encode zstd gzip";`),
  caddyPlain: withServer(MINIMAL, CADDY, "services.gradient.useTls = false;"),
};

describe.skipIf(!canEvaluate())("the reverse proxies", () => {
  const evaluated = evaluateSystems(systems);
  const hostOf = (name: keyof typeof systems) => {
    const host = sound(evaluated[name]).nginx.virtualHosts[DOMAIN];
    if (!host) throw new Error("there is no such virtual host");
    return host;
  };
  const serversOf = (name: keyof typeof systems) =>
    Object.keys(sound(evaluated[name]).nginx.upstreams["gradient-server"]?.servers ?? {});
  const siteOf = (name: keyof typeof systems, address = DOMAIN) => {
    const site = sound(evaluated[name]).caddy.virtualHosts[address];
    if (!site) throw new Error("there is no such site");
    return site;
  };

  test("nginx passes the API, caches and workers to the server, and serves the pages itself", () => {
    const { locations, extraConfig, ...host } = hostOf("nginx");
    expect(host).toEqual({ http2: true, enableACME: true, forceSSL: true });
    for (const line of ["sendfile on;", "tcp_nopush on;"]) expect(extraConfig.split("\n")).toContain(line);
    const [, narInfos] = Object.entries(locations).find(([path]) => path.includes("narinfo")) ?? [];
    expect(narInfos?.extraConfig).toContain("sendfile off;");
    expect(serversOf("nginx")).toEqual(["127.0.0.1:3000"]);
    for (const path of ["/api/", "/proto", "/cache/"]) {
      expect(locations[path]).toMatchObject({ proxyPass: "http://gradient-server" });
      for (const header of ["Host $host", "X-Forwarded-For $proxy_add_x_forwarded_for", "Upgrade $http_upgrade"]) {
        expect(locations[path]?.extraConfig).toContain(`proxy_set_header ${header};`);
      }
    }
    expect(locations["/proto"]?.extraConfig).toContain("proxy_read_timeout 90d;");
    expect(locations["/api/"]?.extraConfig).toContain("client_max_body_size 0;");
    expect(locations["/"]).toMatchObject({ tryFiles: "$uri $uri/ /index.html" });
    expect(locations["/"]?.root).toMatch(/-gradient-frontend\/share\/gradient-frontend$/);
    expect(locations["= /metrics"]?.return).toBe("404");
  });

  test("every documented address of the server is behind the proxies, and nothing else needs to be", () => {
    const document = JSON.parse(readFileSync(join(ROOT, "docs/openapi.json"), "utf8")) as { paths: object };
    const paths = Object.keys(document.paths);
    expect(paths.length).toBeGreaterThan(150);
    expect(paths.filter((path) => !/^\/(?:api|cache|proto)\//.test(path))).toEqual([]);
    const { locations } = hostOf("nginx");
    const passed = Object.keys(locations).filter((path) => locations[path]?.proxyPass === "http://127.0.0.1:3000");
    expect(passed.filter((path) => !/^(?:= |~ \^)?\/(?:api|cache|proto)/.test(path))).toEqual([]);
  });

  test("the pages are there for a proxy of one's own", () => {
    const [host] = Object.values(sound(evaluated.own).nginx.virtualHosts["own.example.com"]?.locations ?? {});
    expect(host?.root).toMatch(/^\/nix\/store\/\S+-gradient-frontend\/share\/gradient-frontend$/);
    expect(host?.root).toBe(hostOf("nginx").locations["/"]?.root);
  });

  test("a certificate is asked for where nginx is to have one, and nowhere else", () => {
    for (const name of ["plain", "ownCertificate"] as const) {
      expect(hostOf(name)).toMatchObject({ enableACME: false, forceSSL: false });
    }
    expect(unitOf(evaluated.ownCertificate, "gradient-server").environment.GRADIENT_USE_TLS).toBe("true");
  });

  test("a server that listens everywhere is reached on this machine", () => {
    expect(serversOf("everywhere")).toEqual(["[::1]:3210"]);
  });

  test("without the web interface nothing but the server's own paths is answered", () => {
    expect(hostOf("noPages").locations["/"]).toMatchObject({ return: "404", root: null });
  });

  test("nginx alone reads the NARs of this machine, through a location that nobody can ask for", () => {
    const { locations } = hostOf("nginx");
    expect(locations["/internal-storage/"]).toMatchObject({ alias: "/var/lib/gradient/storage/", proxyPass: null });
    expect(locations["/internal-storage/"]?.extraConfig).toContain("internal;");
    expect(locations["/cache/"]?.extraConfig).toContain("X-Sendfile-Type X-Accel-Redirect;");
    expect(sound(evaluated.nginx).groups.gradient?.members).toEqual(["nginx"]);
    expect(sound(evaluated.nginx).tmpfiles).toEqual([
      "d /var/lib/gradient 0710 gradient gradient -",
      "d /var/lib/gradient/storage 0710 gradient gradient -",
      "d /run/gradient-nginx 2770 gradient gradient 1d",
    ]);
    const written = (name: string) => unitOf(evaluated.nginx, name).serviceConfig.ReadWritePaths;
    expect(written("gradient-server")).toEqual(["/var/lib/gradient", "-/run/gradient-nginx"]);
    expect(written("nginx")).toEqual(["-/run/gradient-nginx"]);

    for (const name of ["none", "caddy", "shared"] as const) {
      const { environment } = unitOf(evaluated[name], "gradient-server");
      expect(environment).not.toHaveProperty("GRADIENT_NGINX_STORAGE_LOCATION");
      expect(sound(evaluated[name]).groups.gradient?.members).toEqual([]);
    }
    expect(hostOf("shared").locations).not.toHaveProperty("/internal-storage/");
    expect(hostOf("shared").locations["/cache/"]?.extraConfig).toContain('X-Sendfile-Type "";');
    const [, narInfos] = Object.entries(hostOf("shared").locations).find(([path]) => path.includes("narinfo")) ?? [];
    expect(narInfos?.extraConfig).toContain('X-Sendfile-Type "";');
  });

  test.skipIf(!nginxAvailable())("nginx takes what is written for it", async () => {
    await using folder = await withTemporaryFolder();
    const certificate = makeCertificate(DOMAIN);
    for (const name of ["nginx", "noPages", "shared", "everywhere"] as const) {
      const place = join(folder.path, name);
      mkdirSync(place);
      writeFileSync(join(place, "tls.pem"), certificate.certificate);
      writeFileSync(join(place, "tls.key"), certificate.key, { mode: 0o600 });
      const { nginx } = sound(evaluated[name]);
      writeFileSync(join(place, "nginx.conf"), nginxConfiguration(nginx, DOMAIN, place));
      const { status, stderr } = spawnSync("nginx", [
        "-t",
        "-p",
        place,
        "-c",
        join(place, "nginx.conf"),
        "-e",
        "stderr",
      ]);
      expect(stderr.toString()).toContain("test is successful");
      expect(status).toBe(0);
    }
  });

  test("Caddy passes the same to the server, asks for no certificate here, and takes what is added last", () => {
    const { useACMEHost, extraConfig } = siteOf("caddy");
    expect(useACMEHost).toBeNull();
    expect(extraConfig).toContain("@gradient path /api /api/* /cache /cache/* /proto");
    expect(extraConfig).toContain("reverse_proxy 127.0.0.1:3000");
    expect(extraConfig).toMatch(/root \* \S+-gradient-frontend\/share\/gradient-frontend/);
    expect(extraConfig).toContain("try_files {path} {path}/ /index.html");

    expect(siteOf("caddyHost").useACMEHost).toBe("example.com");
    expect(siteOf("caddyHost").extraConfig.trimEnd()).toMatch(/\nencode zstd gzip$/);
    expect(Object.keys(sound(evaluated.caddyPlain).caddy.virtualHosts)).toEqual([`http://${DOMAIN}`]);
    expect(sound(evaluated.caddy).nginx.enable).toBe(false);
  });

  test("the spelling of the documentation's table is taken, with a warning", () => {
    expect(siteOf("caddyMisspelt").extraConfig).toBe(`${siteOf("caddy").extraConfig}encode zstd gzip`);
    expect(sound(evaluated.caddyMisspelt).warnings.join()).toContain(
      "services.gradient.reversePorxy.caddy.extraConfig",
    );
  });
});
