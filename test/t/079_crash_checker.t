# The checker of the crash tests finds every kind of problem, and none where there is none.
use strict;
use warnings;

exec '/usr/bin/python3', '-B', 'test/checker/selftest' or die "python3: $!";
