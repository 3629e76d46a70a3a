#!/usr/bin/env bash
# Fills .gpu/ with all that the GPU lane needs on a machine that has a driver, libnccl, cc and Python, but neither Node nor npm: Node itself,
# the builds, production packages, and the three modules of vLLM that receive. Run it after `npm run build:gpu`; carry .gpu, bench and test.
#
# There:   . .gpu/enter.sh && node --test dist-bench/test/gpu/ ; node dist-bench/bench/gpu/run.js
set -euo pipefail
cd "$(dirname "$0")/../.."
for built in build/Release/weightcast.node dist/native.js dist-bench/bench/gpu/run.js; do
  [ -e "$built" ] || { echo "$built is missing: npm run build:gpu" >&2; exit 1; }
done
rm -rf .gpu
mkdir -p .gpu/build/Release .gpu/vllm
xz -T0 -6 -c "$(readlink -f "$(command -v node)")" > .gpu/node.xz
cp build/Release/weightcast.node .gpu/build/Release/
cp -r build/emulator .gpu/build/
cp -r dist dist-bench package.json package-lock.json .gpu/
(cd .gpu && npm ci --omit=dev --ignore-scripts --no-audit --no-fund --silent && rm package-lock.json)
# node-addon-api is headers: only the build needs them.
rm -rf .gpu/node_modules/node-addon-api

# vLLM's receive code, out of the environment that `npm run test:peers` made.
cache="${WEIGHTCAST_PEERS_CACHE:-$HOME/.cache/weightcast/peers}"
vllm="$(ls -d "$cache"/vllm-0.32.0-*/lib/python3*/site-packages/vllm 2> /dev/null | head -1 || true)"
if [ -n "$vllm" ]; then
  cp "$vllm"/distributed/device_communicators/{pynccl,pynccl_wrapper}.py "$vllm"/distributed/weight_transfer/packed_tensor.py .gpu/vllm/
else
  echo "no vLLM 0.32.0 in $cache (npm run test:peers makes it): that one test will be skipped" >&2
fi

cat > .gpu/enter.sh <<'IN'
# Source this on the GPU machine, in the project's root.
if [ ! -x .gpu/bin/node ]; then
  mkdir -p .gpu/bin
  python3 -c "import lzma, shutil; shutil.copyfileobj(lzma.open('.gpu/node.xz'), open('.gpu/bin/node', 'wb'))"
  chmod +x .gpu/bin/node
fi
for carried in build dist dist-bench node_modules package.json; do
  [ -e "$carried" ] || cp -r ".gpu/$carried" "$carried"
done
export PATH="$PWD/.gpu/bin:$PATH"
if [ -z "${WEIGHTCAST_NCCL_LIBRARY:-}" ]; then
  WEIGHTCAST_NCCL_LIBRARY="$(python3 -c "import glob, site; print(next((p for s in site.getsitepackages() for p in glob.glob(s + '/nvidia/nccl/lib/libnccl.so.2')), ''))")"
  export WEIGHTCAST_NCCL_LIBRARY
fi
IN
du -sh .gpu
