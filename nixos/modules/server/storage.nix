# Where NARs and other large bodies are kept, where that is not below `baseDir`.
{ lib, ... }:
let
  inherit (lib) mkOption types;
  text = example: description: mkOption {
    type = types.nullOr types.str;
    default = null;
    inherit example description;
  };
in
{
  options.services.gradient.s3 = {
    enable = lib.mkEnableOption "keeping NARs in S3 instead of on the disk";

    bucket = text "gradient-nars" "The bucket.";

    region = mkOption {
      type = types.str;
      default = "us-east-1";
      example = "eu-central-1";
      description = "The bucket's region.";
    };

    endpoint = text "https://s3.example.com" "Address of an S3 that is not Amazon's.";

    accessKeyId = text "AKIAIOSFODNN7EXAMPLE" "Id of the access key; null takes the credentials of the machine.";

    secretAccessKeyFile = mkOption {
      type = types.nullOr types.externalPath;
      default = null;
      example = "/run/secrets/gradient-s3";
      description = "File with the secret access key. It reaches the server as a systemd credential.";
    };

    prefix = mkOption {
      type = types.str;
      default = "";
      example = "gradient";
      description = "What the names of all objects begin with.";
    };

    virtualHostedStyle = mkOption {
      type = types.nullOr types.bool;
      default = null;
      example = false;
      description = "Whether the bucket is part of the host's name; null is yes for Amazon's own, and no for others.";
    };

    redirect = mkOption {
      type = types.nullOr types.bool;
      default = null;
      example = false;
      description = "Whether clients fetch NARs from S3 themselves; null is yes, unless S3 is on this machine.";
    };
  };

  options.services.gradient.storage = {
    movingTo = mkOption {
      type = types.nullOr (
        types.enum [
          "disk"
          "s3"
        ]
      );
      default = null;
      example = "s3";
      description = ''
        Where stored objects are moved to. New ones go there, and what is not there yet is read from the other place;
        `systemctl start gradient-migrate-storage` copies what is left, beside the server. Then this option goes.
      '';
    };

    sharedPath = mkOption {
      type = types.nullOr types.externalPath;
      default = null;
      example = "/srv/gradient-storage";
      description = "A folder that all servers of one database reach, writable for the user `gradient`.";
    };
  };
}
