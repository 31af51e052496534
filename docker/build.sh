#!/bin/sh
# Builds the images from the files of HEAD: what is not committed is in none of them. BUILD_OPTIONS are words for
# `docker build`, as --build-arg TORCH_OPTIONS='--index-url …' for CPU builds of torch. The images' ids, by which the
# runner `docker` starts them, go to .kd/images.env.
#   build.sh [IMAGE…]   component, airflow, serving, s3; all without words
set -eu
cd "$(dirname "$0")/.."
sha=$(git rev-parse HEAD)
for image in ${*:-component airflow serving s3}; do
  echo "building kd-$image at $sha"
  # shellcheck disable=SC2086 -- options are several words
  git archive HEAD | docker build --quiet --file "docker/$image.Dockerfile" --tag "kd-$image:$sha" --tag "kd-$image:dev" \
    --build-arg GIT_SHA="$sha" ${BUILD_OPTIONS:-} - >/dev/null
done
mkdir -p .kd
echo "KD_IMAGE=$(docker image inspect --format '{{.Id}}' kd-component:dev)" > .kd/images.env
docker image ls --filter reference='kd-*:dev'
