#!/usr/bin/perl
#
# gen_wire.pl: makes kmsg_gen.h and kmsg_gen.c out of messages.txt and errors.txt.
#
#	perl gen_wire.pl messages.txt errors.txt OUTPUT_DIRECTORY
#
# The formats are explained at the top of the two files.  Anything that is not understood, or that
# the walker could not do, ends the run with file, line and reason; nothing is guessed.
use strict;
use warnings;

# name => [C type, C type of an array, KFieldType, bytes on the wire, range]
my %scalar = (
	bool    => [ 'bool',     undef,         'KF_BOOL',    1 ],
	int8    => [ 'int8_t',   'KInt8Array',  'KF_INT8',    1, -128, 127 ],
	int16   => [ 'int16_t',  'KInt16Array', 'KF_INT16',   2, -32768, 32767 ],
	uint16  => [ 'uint16_t', undef,         'KF_UINT16',  2, 0, 65535 ],
	int32   => [ 'int32_t',  'KInt32Array', 'KF_INT32',   4, -2147483648, 2147483647 ],
	int64   => [ 'int64_t',  'KInt64Array', 'KF_INT64',   8, -2**63, 9223372036854775807 ],
	float64 => [ 'double',   undef,         'KF_FLOAT64', 8 ],
	uuid    => [ 'KUuid',    undef,         'KF_UUID',    16 ],
	string  => [ 'KStr',     'KStrArray',   'KF_STRING' ],
	bytes   => [ 'KBytes',   undef,         'KF_BYTES' ],
	records => [ 'KBytes',   undef,         'KF_BYTES' ]);
my %keyword = map { $_ => 1 } qw(auto bool break case char const continue default do double else
  enum extern float for goto if inline int long register restrict return short signed sizeof
  static struct switch typedef union unsigned void volatile while unknown_tags);
my $last_version = 126;    # INT8_MAX means "never flexible"

die "usage: gen_wire.pl messages.txt errors.txt OUTPUT_DIRECTORY\n" unless @ARGV == 3;
my ($messages_file, $errors_file, $outdir) = @ARGV;

my ($file, $line) = ('', 0);    # where we are, for complaints

sub complain
{
	die "$file:$line: $_[0]\n";
}

# "3", "3-12" or "3+" to [first, last], inside the versions of what it stands in.
sub versions
{
	my ($text, $outer) = @_;
	my ($first, $last);

	if ($text =~ /^(\d+)$/)          { ($first, $last) = ($1, $1); }
	elsif ($text =~ /^(\d+)-(\d+)$/) { ($first, $last) = ($1, $2); }
	elsif ($text =~ /^(\d+)\+$/ && $outer) { ($first, $last) = ($1, $outer->[1]); }
	else { complain("versions expected, found \"$text\""); }
	complain("versions \"$text\" run backwards") if $first > $last;
	complain("version $last is too large") if $last > $last_version;
	complain("versions \"$text\" go beyond $outer->[0]-$outer->[1]")
	  if $outer && ($first < $outer->[0] || $last > $outer->[1]);
	return [ $first, $last ];
}

sub has_version
{
	my ($range, $version) = @_;
	return $range && $version >= $range->[0] && $version <= $range->[1];
}

# KEY=VALUE words and bare words to a hash; only those named are allowed.
sub attributes
{
	my ($words, @allowed) = @_;
	my %attr;

	foreach my $word (@$words)
	{
		my ($key, $value) = $word =~ /^([a-z_]+)(?:=(.+))?$/
		  or complain("attribute expected, found \"$word\"");
		my ($form) = grep { /^$key=?$/ } @allowed or complain("unknown attribute \"$key\"");
		complain("attribute \"$key\" " . ($form =~ /=/ ? 'needs a value' : 'has no value'))
		  if ($form =~ /=/) != defined $value;
		complain("attribute \"$key\" given twice") if exists $attr{$key};
		$attr{$key} = defined $value ? $value : 1;
	}
	return \%attr;
}

sub flexible_from
{
	my ($text, $versions) = @_;

	return undef if $text eq 'none';
	$text =~ /^(\d+)\+$/ or complain("flexible=N+ or flexible=none expected");
	complain("flexible from $1 on, but the message ends at $versions->[1]")
	  if $1 > $versions->[1];
	return $1;
}

# ------------------------------------------------------------------------
# Reading
# ------------------------------------------------------------------------

my (@structs, @apis, %seen_struct, %seen_api);    # in the order of the output

# A message or a struct in one. C name, descriptor's name, versions, where it was defined.
sub new_struct
{
	my ($name, $message, $versions) = @_;
	my $s = {
		ctype    => "K$name",
		message  => $message,
		versions => $versions,
		fields   => [],
		seen     => {},
		line     => $line
	};

	(my $var = $name) =~ s/(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])/_/g;
	$s->{var} = 'kmsg_' . lc $var;
	complain("struct K$name is defined twice") if $seen_struct{ $s->{var} }++;
	return $s;
}

sub new_message
{
	my ($name, $versions, $flexible) = @_;
	my $message = { name => $name, flexible => $flexible, versions => $versions, types => {} };
	my $s = new_struct($name, $message, $versions);

	$s->{is_message} = 1;
	$message->{root} = $s;
	return $message;
}

# A struct is complete once a line stands no deeper than the one that opened it.
sub finish_struct
{
	my ($s) = @_;
	my $message = $s->{message};
	my @tagged = grep { defined $_->{tag} } @{ $s->{fields} };

	$line = $s->{line};
	complain("$s->{ctype} has no fields") if !@{ $s->{fields} } && !$s->{is_message};
	@tagged = sort { $a->{tag} <=> $b->{tag} } @tagged;
	foreach my $i (0 .. $#tagged)
	{
		complain("tags of $s->{ctype} are not 0, 1, ...") if $tagged[$i]{tag} != $i;
	}
	$s->{untagged} = [ grep { !defined $_->{tag} } @{ $s->{fields} } ];
	$s->{ordered} = [ @{ $s->{untagged} }, @tagged ];

	foreach my $version ($s->{versions}[0] .. $s->{versions}[1])
	{
		my $flexible = defined $message->{flexible} && $version >= $message->{flexible};
		my $min = $flexible ? 1 : 0;

		foreach my $f (grep { has_version($_->{versions}, $version) } @{ $s->{untagged} })
		{
			my $compact = $flexible && !$f->{plain};

			if ($f->{array}) { $min += $compact ? 1 : 4; }
			elsif ($f->{sub})
			{
				$min += $f->{nullable} ? 1
				  : $f->{sub}{min_size}[ $version - $f->{sub}{versions}[0] ];
			}
			elsif ($f->{type} eq 'string') { $min += $compact ? 1 : 2; }
			elsif ($f->{type} =~ /^(?:bytes|records)$/) { $min += $compact ? 1 : 4; }
			else { $min += $scalar{ $f->{type} }[3]; }
		}
		push @{ $s->{min_size} }, $min;
	}
	push @structs, $s;
}

# A field's default as a C initializer, undef for zero.
sub default_value
{
	my ($f, $text) = @_;
	my $info = $f->{sub} ? undef : $scalar{ $f->{type} };

	if ($text eq 'null')
	{
		complain("default=null, but it is not nullable in all its versions")
		  if !$f->{nullable} || "@{$f->{nullable}}" ne "@{$f->{versions}}";
		return $f->{sub} && !$f->{array} ? undef : '{NULL, -1}';
	}
	complain("only default=null is possible here") if $f->{array} || !$info;
	if ($f->{type} eq 'bool')
	{
		complain("default=true expected, false needs no default") if $text ne 'true';
		return 'true';
	}
	complain("no default is possible for $f->{type}") if !defined $info->[4];
	$text =~ /^-?[1-9]\d*$/ or complain("default \"$text\" is not an integer other than 0");
	complain("default $text does not fit $f->{type}") if $text < $info->[4] || $text > $info->[5];
	return 'INT32_MIN' if $text eq '-2147483648';
	return $f->{type} eq 'int64' ? "INT64_C($text)" : $text;
}

# One field line into its struct; returns the struct whose fields come deeper, if any.
sub read_field
{
	my ($s, $name, $type, $range, @words) = @_;
	my $message = $s->{message};
	my $attr = attributes(\@words, 'nullable=', 'tag=', 'default=', 'ignorable', 'plain');
	my ($f, $opened);

	complain("field name \"$name\" is not in snake case") if $name !~ /^[a-z][a-z0-9_]*$/;
	complain("field name \"$name\" is taken in C") if $keyword{$name};
	complain("field \"$name\" is there twice") if $s->{seen}{$name}++;

	$f = { name => $name, versions => versions($range, $s->{versions}) };
	$f->{array} = 1 if $type =~ s/^\[\]//;
	$f->{type} = $type;
	if ($type =~ /^[A-Z][A-Za-z0-9]*$/)
	{
		$f->{sub} = $message->{types}{$type};
		if (!$f->{sub})
		{
			$opened = new_struct("$message->{name}$type", $message, $f->{versions});
			$message->{types}{$type} = $f->{sub} = $opened;
		}
		complain("$type does not exist in all versions of \"$name\"")
		  if $f->{versions}[0] < $f->{sub}{versions}[0]
		  || $f->{versions}[1] > $f->{sub}{versions}[1];
	}
	elsif (!$scalar{$type})
	{
		complain("unknown type \"$type\"");
	}
	elsif ($f->{array} && !$scalar{$type}[1])
	{
		complain("arrays of $type are not supported");
	}

	if (defined $attr->{nullable})
	{
		$f->{nullable} = versions($attr->{nullable}, $f->{versions});
		complain("$type can not be null") if !$f->{array} && !$f->{sub}
		  && $type !~ /^(?:string|bytes|records)$/;
		complain("a struct must be nullable in all its versions or in none")
		  if $f->{sub} && !$f->{array} && "@{$f->{nullable}}" ne "@{$f->{versions}}";
	}
	if (defined $attr->{tag})
	{
		$attr->{tag} =~ /^\d+$/ or complain("tag=N expected");
		complain("tag in a version that is not flexible")
		  if !defined $message->{flexible} || $f->{versions}[0] < $message->{flexible};
		$f->{tag} = $attr->{tag};
	}
	$f->{default} = default_value($f, $attr->{default}) if defined $attr->{default};
	complain("a nullable struct needs default=null")
	  if $f->{sub} && !$f->{array} && $f->{nullable} && !defined $attr->{default};
	complain("ignorable, but there is no version without it")
	  if $attr->{ignorable} && "@{$f->{versions}}" eq "@{$s->{versions}}";
	$f->{ignorable} = $attr->{ignorable};
	complain("plain is for strings") if $attr->{plain} && ($f->{array} || $type ne 'string');
	$f->{plain} = $attr->{plain};
	push @{ $s->{fields} }, $f;
	return $opened;
}

sub read_messages
{
	my ($in, @stack, $api, $message, $part);

	# Ends all structs that are open at this depth or deeper; level 0 is the message itself.
	my $close = sub {
		my ($depth) = @_;
		my $where = $line;
		while (@stack > $depth)
		{
			my $s = pop @stack;
			finish_struct($s) if $s;
		}
		$line = $where;
	};
	my $end_message = sub {
		$close->(0);
		foreach my $type (sort keys %{ $message ? $message->{types} : {} })
		{
			complain("struct $type is never used") if $message->{unused}{$type};
		}
		$message = undef;
	};

	$file = $messages_file;
	open($in, '<', $file) or die "$file: $!\n";
	while (my $text = <$in>)
	{
		$line = $.;
		chomp $text;
		next if $text =~ /^\s*(?:#|$)/;
		complain("only blanks may indent and separate") if $text =~ /[^ -~]/;
		my ($indent) = $text =~ /^( *)/;
		my ($word, @words) = split ' ', $text;
		my $depth = length($indent) / 2;

		if ($depth == 0)
		{
			$end_message->();
			if ($word eq 'message' && @words == 3)
			{
				complain('an API lacks its response') if $api && !$api->{response};
				my ($name, $range, $flexible) = @words;
				$range = versions($range);
				my $attr = attributes([$flexible], 'flexible=');
				$api = undef;
				$message = new_message($name, $range, flexible_from($attr->{flexible}, $range));
			}
			elsif ($word eq 'api' && @words >= 4)
			{
				complain('an API lacks its response') if $api && !$api->{response};
				my ($key, $name, $range, @rest) = @words;
				$key =~ /^\d+$/ or complain('a number expected after "api"');
				complain("API $key is out of order") if @apis && $key <= $apis[-1]{key};
				complain("API $name is there twice") if $seen_api{$name}++;
				$range = versions($range);
				my $attr = attributes(\@rest, 'flexible=', 'listed=', 'response_header=');
				complain('flexible= is missing') if !defined $attr->{flexible};
				$api = {
					key      => $key,
					name     => $name,
					versions => $range,
					flexible => flexible_from($attr->{flexible}, $range),
					listed   => defined $attr->{listed} ? $attr->{listed} : $range->[0],
					header   => defined $attr->{response_header} ? $attr->{response_header} : -1
				};
				push @apis, $api;
			}
			elsif ($word =~ /^(request|response)$/ && !@words)
			{
				complain("\"$word\" without an API") if !$api;
				complain("\"$word\" is there twice") if $api->{$word};
				complain('"response" before "request"') if $word eq 'response' && !$api->{request};
				$message = new_message($api->{name} . ucfirst $word, $api->{versions},
					$api->{flexible});
				$api->{$word} = $message->{root};
			}
			else
			{
				complain('"message", "api", "request" or "response" expected');
			}
			@stack = ($message->{root}) if $message;
			next;
		}

		complain('a field without a message') if !$message;
		complain('indent by two blanks a level') if $depth != int $depth || $depth > @stack;
		$close->($depth);
		complain('only a struct has fields below it') if !$stack[ $depth - 1 ];
		if ($word eq 'struct')
		{
			complain('a struct is defined at the top of its message, alone on its line')
			  if $depth != 1 || @words != 1;
			complain("struct name \"$words[0]\" is not in camel case")
			  if $words[0] !~ /^[A-Z][A-Za-z0-9]*$/;
			push @stack, new_struct("$message->{name}$words[0]", $message, $message->{versions});
			$message->{types}{ $words[0] } = $stack[-1];
			$message->{unused}{ $words[0] } = 1;
		}
		else
		{
			complain('field, type and versions expected') if @words < 2;
			(my $type = $words[0]) =~ s/^\[\]//;
			delete $message->{unused}{$type} if $message->{unused};
			complain("struct $type is used inside itself")
			  if grep { $_ && $message->{types}{$type} && $_ == $message->{types}{$type} } @stack;
			push @stack, read_field($stack[ $depth - 1 ], $word, @words);
		}
	}
	$end_message->();
	complain('an API lacks its response') if $api && !$api->{response};
	close $in;
}

# [code, name, retriable] in the file's order.
sub read_errors
{
	my ($in, @errors, %seen);

	$file = $errors_file;
	open($in, '<', $file) or die "$file: $!\n";
	while (my $text = <$in>)
	{
		$line = $.;
		next if $text =~ /^\s*(?:#|$)/;
		$text =~ /^\s*(-?\d+)\s+([A-Z][A-Z0-9_]*)(?:\s+(retriable))?\s*$/
		  or complain('code, name and perhaps "retriable" expected');
		complain("code $1 is out of order") if $1 != (@errors ? $errors[-1][0] + 1 : -1);
		complain("$2 is there twice") if $seen{$2}++;
		push @errors, [ $1, $2, $3 ? 'true' : 'false' ];
	}
	complain('no errors') if !@errors;
	close $in;
	return \@errors;
}

# ------------------------------------------------------------------------
# Writing
# ------------------------------------------------------------------------

sub field_ctype
{
	my ($f) = @_;

	return $scalar{ $f->{type} }[ $f->{array} ? 1 : 0 ] . " $f->{name};" if !$f->{sub};
	return "struct\n\t{\n\t\t$f->{sub}{ctype} *items;\n\t\tint32_t count;\n\t} $f->{name};"
	  if $f->{array};
	return "$f->{sub}{ctype} *$f->{name};" if $f->{nullable};
	return "$f->{sub}{ctype} $f->{name};";
}

# The C initializer of a struct's defaults without braces; empty when all are zero.
sub defaults
{
	my ($s) = @_;
	my @out;

	foreach my $f (@{ $s->{fields} })
	{
		my $value = $f->{default};

		if ($f->{sub} && !$f->{array} && !$f->{nullable})
		{
			my $inner = defaults($f->{sub});
			$value = "{$inner}" if $inner ne '';
		}
		push @out, ".$f->{name} = $value" if defined $value;
	}
	return join ', ', @out;
}

sub range_initializer
{
	my ($range) = @_;
	return $range ? "{$range->[0], $range->[1]}" : '{0, -1}';
}

sub api_enum
{
	my ($api) = @_;
	(my $name = $api->{name}) =~ s/(?<=[a-z0-9])(?=[A-Z])/_/g;
	return 'KAPI_' . uc $name;
}

sub write_file
{
	my ($name, $text) = @_;
	my $out;

	open($out, '>', "$outdir/$name.tmp") or die "$outdir/$name.tmp: $!\n";
	print $out "/* Made by gen_wire.pl out of messages.txt and errors.txt: do not edit. */\n", $text
	  or die "$outdir/$name.tmp: $!\n";
	close $out or die "$outdir/$name.tmp: $!\n";
	rename "$outdir/$name.tmp", "$outdir/$name" or die "$outdir/$name: $!\n";
}

sub header_text
{
	my ($errors) = @_;
	my $text = "#ifndef KMSG_GEN_H\n#define KMSG_GEN_H\n\n#include \"wire/kmsg.h\"\n\n";

	$text .= "typedef enum KApiKey\n{\n"
	  . join(",\n", map { "\t" . api_enum($_) . " = $_->{key}" } @apis) . "\n} KApiKey;\n\n";
	$text .= "/* One more than the greatest API key. */\n#define KAPI_END "
	  . ($apis[-1]{key} + 1) . "\n\n";
	$text .= "typedef enum KErrorCode\n{\n"
	  . join(",\n", map { "\tKERR_$_->[1] = $_->[0]" } @$errors) . "\n} KErrorCode;\n\n";
	foreach my $s (@structs)
	{
		$text .= "typedef struct $s->{ctype}\n{\n";
		$text .= "\t" . field_ctype($_) . "\n" foreach @{ $s->{fields} };
		$text .= "\tKTags unknown_tags;\n} $s->{ctype};\n\n";
	}
	$text .= "extern const KMsgDesc $_->{var};\n" foreach @structs;
	$text .= "\n/* All whole messages, also those of no API; ends with NULL. */\n";
	$text .= "extern const KMsgDesc *const kmsg_all[];\n";
	return "$text\n#endif\n";
}

sub struct_text
{
	my ($s) = @_;
	my $flexible = $s->{message}{flexible};
	my $nfields = @{ $s->{ordered} };
	my $fields = 'NULL';
	my $defaults = defaults($s);
	my $text = "static const $s->{ctype} default_$s->{ctype}"
	  . ($defaults eq '' ? '' : " = {$defaults}") . ";\n";

	if ($nfields > 0)
	{
		$fields = "fields_$s->{ctype}";
		$text .= "static const KFieldDesc ${fields}[] = {\n";
		foreach my $f (@{ $s->{ordered} })
		{
			my @flags;

			push @flags, 'KFF_ARRAY' if $f->{array};
			push @flags, 'KFF_POINTER' if $f->{sub} && !$f->{array} && $f->{nullable};
			push @flags, 'KFF_IGNORABLE' if $f->{ignorable};
			push @flags, 'KFF_PLAIN' if $f->{plain};
			$text .= sprintf("\t{\"%s\", %s, offsetof(%s, %s), %s, %s, %s, %s, %s},\n",
				$f->{name}, $f->{sub} ? "&$f->{sub}{var}" : 'NULL', $s->{ctype}, $f->{name},
				$f->{sub} ? 'KF_STRUCT' : $scalar{ $f->{type} }[2], join(' | ', @flags) || 0,
				range_initializer($f->{versions}), range_initializer($f->{nullable}),
				defined $f->{tag} ? $f->{tag} : -1);
		}
		$text .= "};\n";
	}
	$text .= "static const uint16_t min_$s->{ctype}\[] = {" . join(', ', @{ $s->{min_size} })
	  . "};\n";
	$text .= "const KMsgDesc $s->{var} = {\n"
	  . "\t.name = \"" . substr($s->{ctype}, 1) . "\",\n"
	  . "\t.defaults = &default_$s->{ctype},\n"
	  . "\t.fields = $fields,\n"
	  . "\t.min_size = min_$s->{ctype},\n"
	  . "\t.size = sizeof($s->{ctype}),\n"
	  . "\t.nfields = $nfields,\n"
	  . "\t.nuntagged = " . scalar(@{ $s->{untagged} }) . ",\n"
	  . "\t.tags_offset = offsetof($s->{ctype}, unknown_tags),\n"
	  . "\t.versions = " . range_initializer($s->{versions}) . ",\n"
	  . "\t.flexible_from = " . (defined $flexible ? $flexible : 'KMSG_NEVER_FLEXIBLE') . "\n};\n";
	return $text;
}

sub source_text
{
	my ($errors) = @_;
	my $text = "#include \"wire/kmsg.h\"\n\n";

	$text .= struct_text($_) . "\n" foreach @structs;
	$text .= "const KMsgDesc *const kmsg_all[] = {\n"
	  . join('', map { "\t&$_->{var},\n" } grep { $_->{is_message} } @structs) . "\tNULL\n};\n\n";
	$text .= "static const KApiInfo apis[KAPI_END] = {\n";
	foreach my $api (@apis)
	{
		$text .= sprintf("\t[%s] = {\"%s\", &%s, &%s, %d, %s, %d, %s, %d},\n",
			api_enum($api), $api->{name}, $api->{request}{var}, $api->{response}{var},
			$api->{key}, range_initializer($api->{versions}), $api->{listed},
			defined $api->{flexible} ? $api->{flexible} : 'KMSG_NEVER_FLEXIBLE', $api->{header});
	}
	$text .= "};\n\nconst KApiInfo *\nkapi_info(int key)\n{\n"
	  . "\tif (key < 0 || key >= KAPI_END || apis[key].name == NULL)\n\t\treturn NULL;\n"
	  . "\treturn &apis[key];\n}\n\n";
	$text .= "static const struct\n{\n\tconst char *name;\n\tbool\t\tretriable;\n}\terrors[] = {\n"
	  . join('', map { "\t{\"$_->[1]\", $_->[2]},\n" } @$errors) . "};\n\n";
	$text .= "/* The first one is code $errors->[0][0]; anything else we do not know is that too. */\n"
	  . "static int\nerror_index(int code)\n{\n"
	  . "\treturn code >= $errors->[0][0] && code <= $errors->[-1][0] ?"
	  . " code - ($errors->[0][0]) : 0;\n}\n\n"
	  . "const char *\nkerr_name(int code)\n{\n\treturn errors[error_index(code)].name;\n}\n\n"
	  . "bool\nkerr_retriable(int code)\n{\n\treturn errors[error_index(code)].retriable;\n}\n";
	return $text;
}

read_messages();
my $errors = read_errors();
write_file('kmsg_gen.h', header_text($errors));
write_file('kmsg_gen.c', source_text($errors));
