# The virtual host of `reverseProxy.nginx`.
{
  config,
  lib,
  pkgs,
  ...
}:
let
  inherit (lib) mkOption types;
  cfg = config.services.gradient;
  proxy = cfg.reverseProxy.nginx;
  localAddress = import ../local-address.nix { inherit lib; };
  address = localAddress cfg.listenAddr cfg.port;
  server = "http://gradient-server";
  withTls = cfg.useTls && proxy.manageTls;
  storage = "${cfg.baseDir}/storage";

  # nginx takes over the headers of a level above only where a level has none of its own, so each location has them all.
  # The server believes the address that this proxy adds, and none that stands before it.
  headers = ''
    proxy_http_version 1.1;
    proxy_set_header Host $host;
    proxy_set_header X-Real-IP $remote_addr;
    proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
    proxy_set_header X-Forwarded-Host $host;
    proxy_set_header X-Forwarded-Proto $scheme;
    proxy_set_header Upgrade $http_upgrade;
    proxy_set_header Connection $gradient_connection;
  '';

  # The server names the file that a client may have, and nginx sends it. What clients say here counts nowhere.
  named = ''
    proxy_set_header X-Sendfile-Type ${if cfg.nginxReadsStorage then "X-Accel-Redirect" else "\"\""};
  '';

  # The server has limits of its own for each kind of body, and answers too large ones in words. Bodies and answers
  # pass through as they come: a NAR is not written to nginx's disk first, and a live log is live.
  streamed = ''
    ${headers}
    ${named}
    client_max_body_size 0;
    proxy_request_buffering off;
    proxy_buffering off;
    proxy_connect_timeout 10s;
    proxy_send_timeout 1h;
    proxy_read_timeout 1h;
  '';

  # A worker's connection is open for as long as the worker runs.
  socket = ''
    ${headers}
    proxy_set_header X-Sendfile-Type "";
    proxy_buffering off;
    proxy_connect_timeout 10s;
    proxy_send_timeout 90d;
    proxy_read_timeout 90d;
  '';

  # What the server calls public is answered of memory for a second, to who shows no credentials: also where a NAR lies,
  # which the server itself remembers for longer (core/http/nar-memory.ts). Without a lock: what is not in memory would
  # wait in line there, though the server answers a crowd at once.
  forASecond = ''
    proxy_cache gradient;
    proxy_cache_valid 200 204 1s;
    proxy_ignore_headers Cache-Control Expires Set-Cookie Vary X-Accel-Redirect;
    proxy_no_cache $http_authorization $http_cookie $gradient_not_public;
    proxy_cache_bypass $http_authorization $http_cookie;
    proxy_connect_timeout 10s;
    proxy_read_timeout 1h;
  '';

  # With a narinfo of a public cache the server tells where its NAR lies, for that is asked for next.
  remembered = ''
    ${headers}
    proxy_set_header X-Sendfile-Type ${if cfg.nginxReadsStorage then "X-Accel-Redirect-Also" else "\"\""};
    ${forASecond}
    # They are small: in one piece with their head.
    sendfile off;
    proxy_cache_key $scheme$host$request_uri;
    proxy_hide_header X-Gradient-Nar;
    proxy_hide_header X-Gradient-Nar-Cache-Control;
    proxy_hide_header X-Gradient-Nar-Log;
  '';

  # A URL of a NAR that names its path is answered with what the narinfo came with, which is in memory for a second.
  # For any other the server is asked where the file lies, which counts for a second too. Whenever no file is named, for
  # whatever reason, the request itself goes to the server and gets its words, and so it does when the file is gone or
  # the request is none for a file.
  nar = ''
    auth_request /gradient-located;
    auth_request_set $gradient_located $upstream_http_x_accel_redirect;
    auth_request_set $gradient_named $upstream_http_x_gradient_nar;
    auth_request_set $gradient_cache_control $upstream_http_x_gradient_nar_cache_control;
    client_max_body_size 0;
    alias $gradient_nar;
    ${file}
    add_header ETag "\"$gradient_named\"";
    add_header Cache-Control $gradient_cache_control;
    error_page 404 405 = @gradient;
    log_not_found off;
  '';

  # What is sent is logged here, since a log of the file's own location would take the place of the host's. The server
  # reads each file when its ten seconds are over (runtime/node/proxy-log.ts), and takes it away; the lines are its own
  # (core/http/sent-nar.ts). nginx writes into a file of a name with variables only where the folder `root` is there.
  located = ''
    internal;
    ${headers}
    ${forASecond}
    proxy_cache_key $scheme$host$gradient_asked;
    client_max_body_size 0;
    proxy_pass_request_body off;
    proxy_set_header Content-Length "";
    proxy_set_header X-Sendfile-Type X-Accel-Redirect-Only;
    proxy_intercept_errors on;
    error_page 400 401 403 404 405 410 412 413 416 429 431 500 501 502 503 504 = @gradient-unlocated;
    log_subrequest on;
    root ${cfg.nginxLogPath};
    access_log ${cfg.nginxLogPath}/sent-$gradient_ten_seconds gradient_sent if=$gradient_sent;
    open_log_file_cache max=1 inactive=10s valid=10s;
  '';

  # The tag is the server's: one of the file's time would be another after a backup was restored.
  file = ''
    etag off;
    types { }
    default_type application/x-nix-nar;
    add_header Last-Modified "";
    open_file_cache max=256 inactive=10s;
    open_file_cache_min_uses 2;
  '';

  locationOf = extraConfig: {
    proxyPass = server;
    recommendedProxySettings = false;
    inherit extraConfig;
  };
in
{
  options.services.gradient = {
    nginxStorageLocation = mkOption {
      type = types.str;
      readOnly = true;
      internal = true;
      default = "/internal-storage/";
      description = "Where nginx, and nobody through it, reads the storage folder.";
    };

    nginxLogPath = mkOption {
      type = types.path;
      readOnly = true;
      internal = true;
      default = "/run/gradient-nginx";
      description = "Where nginx writes down what it has sent.";
    };

    nginxReadsStorage = mkOption {
      type = types.bool;
      readOnly = true;
      internal = true;
      # A shared folder has rights of its own, which are not ours to open.
      default = proxy.enable && cfg.storage.sharedPath == null;
      description = "Whether the server leaves the sending of stored files to nginx.";
    };
  };

  config = lib.mkIf (cfg.enable && proxy.enable) {
    users.groups.gradient.members = lib.optional cfg.nginxReadsStorage config.services.nginx.user;

    # What one of the two makes there is the group's. What a server that never runs again left there goes after a day.
    systemd.tmpfiles.rules = lib.optional cfg.nginxReadsStorage "d ${cfg.nginxLogPath} 2770 gradient gradient 1d";
    # nginx starts without it, too: other hosts may be on it.
    systemd.services.nginx.serviceConfig = {
      ReadWritePaths = lib.mkIf cfg.nginxReadsStorage [ "-${cfg.nginxLogPath}" ];
      # Beside its connections each of its processes keeps some 1,500 files open.
      LimitNOFILE = lib.mkDefault 65535;
    };

    services.nginx = {
      enable = true;

      # nginx ends idle connections after 60 s, and the server after 75: it never asks on one that is being closed.
      upstreams.gradient-server = {
        servers.${address} = { };
        extraConfig = "keepalive 64;";
      };

      commonHttpConfig = lib.mkIf cfg.nginxReadsStorage "log_format gradient_sent $upstream_http_x_gradient_nar_log;";

      # In memory: what is kept for a second costs a disk more than it saves.
      appendHttpConfig = ''
        proxy_cache_path /run/nginx/gradient keys_zone=gradient:10m max_size=64m inactive=10s use_temp_path=off;
        map $http_upgrade $gradient_connection { default upgrade; "" ""; }
        map $upstream_http_cache_control $gradient_public { default 0; "~*(^|[ ,])public" 1; }
        map $gradient_public $gradient_not_public { default 1; 1 ""; }
      ''
      + lib.optionalString cfg.nginxReadsStorage ''
        map $http_if_none_match $gradient_unconditional { default ""; "" 1; }
        map $msec $gradient_ten_seconds { "~^(?<gradient_tens>\d+)\d\." $gradient_tens; }
        # As core/http/cache-narinfo.ts writes URLs.
        map $request_uri $gradient_asked {
          default $request_uri;
          "~^(?<gradient_cache>/cache/[0-9a-z-]+)/nar/[0-9a-z]+\.nar\.zst\?hash=(?<gradient_path>[0-9a-z]{32})$"
            $gradient_cache/$gradient_path.narinfo;
        }
        # Who names another file than the one that the path has gets what the server says to that.
        map "$request_uri $gradient_named" $gradient_is_named {
          default "";
          "~^/cache/[0-9a-z-]+/nar/([0-9a-z]+)\.nar\.zst(?:\?\S*)? \1$" 1;
        }
        map "$request_method$gradient_unconditional$gradient_is_named$gradient_located" $gradient_nar {
          default /dev/null/none;
          "~^(?:GET|HEAD)11${cfg.nginxStorageLocation}(?<gradient_file>.+)$" ${storage}/$gradient_file;
        }
        # Looked at before the main request has the name.
        map "$request_method$gradient_unconditional $request_uri $upstream_http_x_gradient_nar" $gradient_sent {
          default "";
          "~^GET1 /cache/[0-9a-z-]+/nar/([0-9a-z]+)\.nar\.zst(?:\?\S*)? \1$" 1;
        }
      '';

      virtualHosts.${cfg.domain} = {
        http2 = true;
        # The kernel sends a file where there is no TLS, its head in the same piece. For the whole host: one location
        # without `tcp_nopush`, or a question for the place of a file without `sendfile`, and the connection has them no
        # more. A narinfo, which Nix asks for three times, is opened once; a page that is written in place may go out
        # with its old length for ten seconds. The files of the storage have memories of their own: none is ever
        # written twice, and nginx looks whether what it remembers is still the file that it kept, but the space of a
        # deleted one may stay taken until somebody asks for another.
        extraConfig = ''
          sendfile on;
          tcp_nopush on;
          open_file_cache max=1000 inactive=10s;
          open_file_cache_valid 10s;
        '';
        enableACME = lib.mkDefault withTls;
        forceSSL = lib.mkDefault withTls;

        locations = {
          "/api/" = locationOf streamed;
          "= /api" = locationOf streamed;
          "/cache/" = locationOf streamed;
          "= /cache" = locationOf streamed;
          "/proto" = locationOf socket;
          "~ ^/cache/[^/]+/(?:[0-9a-z]+\\.narinfo|nix-cache-info)$" = locationOf remembered;
          # For scrapers, on the server's own port; here it must not be a page of the web interface.
          "= /metrics".return = "404";
        }
        // lib.optionalAttrs cfg.nginxReadsStorage {
          "~ ^/cache/[^/]+/nar/[0-9a-z]+\\.nar\\.zst$".extraConfig = nar;
          "= /gradient-located" = locationOf located // {
            proxyPass = "${server}$gradient_asked";
          };
          "@gradient-unlocated".return = "204";
          "@gradient" = locationOf streamed;
          ${cfg.nginxStorageLocation} = {
            alias = "${storage}/";
            extraConfig = ''
              internal;
              ${file}
              add_header ETag $upstream_http_etag;
            '';
          };
        }
        // (
          if cfg.frontend.enable then
            {
              # Pages are asked for anew after a release, what has a hash in its name never.
              "/" = {
                root = "${pkgs.gradient-frontend}/share/gradient-frontend";
                tryFiles = "$uri $uri/ /index.html";
                extraConfig = ''add_header Cache-Control "no-cache";'';
              };
              "/assets/" = {
                root = "${pkgs.gradient-frontend}/share/gradient-frontend";
                tryFiles = "$uri =404";
                extraConfig = ''add_header Cache-Control "public, max-age=31536000, immutable";'';
              };
            }
          else
            { "/".return = "404"; }
        );
      };
    };
  };
}
