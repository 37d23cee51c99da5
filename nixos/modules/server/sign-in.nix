# How people get in, and how they are written to: `oidc` and `email`.
{ lib, ... }:
let
  inherit (lib) mkOption types;
  text = example: description: mkOption {
    type = types.nullOr types.str;
    default = null;
    inherit example description;
  };
  secret = description: example: mkOption {
    type = types.nullOr types.externalPath;
    default = null;
    inherit example;
    description = "${description} It reaches the server as a systemd credential.";
  };
in
{
  options.services.gradient.oidc = {
    enable = lib.mkEnableOption "signing in by an OpenID Connect provider";

    required = mkOption {
      type = types.bool;
      default = false;
      example = true;
      description = "Whether this is the only way in, without passwords.";
    };

    clientId = text "gradient" "The id that the provider gave to this instance.";

    clientSecretFile = secret "File with the client's secret." "/run/secrets/gradient-oidc-secret";

    discoveryUrl = text "https://auth.example.com" ''
      The provider's address, below which `/.well-known/openid-configuration` lies. It sends people back to
      `https://<domain>/api/v1/auth/oidc/callback`.
    '';

    scopes = mkOption {
      type = types.listOf types.str;
      default = [
        "openid"
        "email"
        "profile"
      ];
      example = [
        "openid"
        "email"
        "profile"
        "groups"
      ];
      description = "What the provider is asked for. `openid` must be among it.";
    };

    iconUrl = text "https://auth.example.com/logo.svg" "The provider's logo beside its button.";
  };

  options.services.gradient.email = {
    enable = lib.mkEnableOption "sending mails";

    requireVerification = mkOption {
      type = types.bool;
      default = false;
      example = true;
      description = "Whether people must show that their address is theirs before they sign in.";
    };

    enableTls = mkOption {
      type = types.bool;
      default = true;
      example = false;
      description = ''
        Whether the mail server is spoken to through TLS: from the first byte on port 465, by STARTTLS elsewhere.
      '';
    };

    smtpHost = text "smtp.example.com" "The mail server.";

    smtpPort = mkOption {
      type = types.port;
      default = 587;
      example = 465;
      description = "The mail server's port.";
    };

    smtpUsername = text "gradient@example.com" "Name at the mail server; null where it asks for none.";

    smtpPasswordFile = secret "File with the password at the mail server." "/run/secrets/gradient-smtp";

    fromAddress = text "gradient@example.com" "Who mails come from.";

    fromName = mkOption {
      type = types.str;
      default = "Gradient";
      example = "Example CI";
      description = "The name beside that address.";
    };
  };
}
