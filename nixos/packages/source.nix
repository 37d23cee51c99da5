# These folders and files of the repository, without their tests.
{ lib }:
parts:
let
  inherit (lib) fileset;
  isTest = file: lib.hasSuffix ".test.ts" file.name;
in
fileset.toSource {
  root = ../..;
  fileset = fileset.difference (fileset.unions ([ ../../package.json ] ++ parts)) (
    fileset.fileFilter isTest ../..
  );
}
