# Sourced by demo.sh and test.sh: makes .venv beside it if need be and installs the file of requirements given.
#
#     . ./venv.sh requirements.txt

python=${PYTHON:-python3}
if ! "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
    echo "Python 3.11 or later is needed; '$python' is $("$python" --version 2>&1). Name another one: PYTHON=python3.12 bash $0" >&2
    exit 1
fi
if [ ! -x .venv/bin/python ] && ! "$python" -m venv .venv; then
    rm -rf .venv
    echo "'$python -m venv' failed. On Debian and Ubuntu: apt install python3-venv" >&2
    exit 1
fi
# A copy of the requirements, written last, says that they are installed.
if ! cat requirements.txt "$1" | cmp -s - ".venv/installed-$1"; then
    echo "Installing $1 into .venv (a minute or two) …"
    .venv/bin/python -m pip install --quiet --disable-pip-version-check -r "$1"
    cat requirements.txt "$1" > ".venv/installed-$1"
fi
