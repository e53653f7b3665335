# What the build must know of src/wire: files that are made before anything is compiled.
# Included by build.mk; paths are relative to the project's root.
GENERATED_C = src/wire/kmsg_gen.c
GENERATED_H = src/wire/kmsg_gen.h

# One run makes both; the second rule only says so to make.
src/wire/kmsg_gen.c: src/wire/gen_wire.pl src/wire/messages.txt src/wire/errors.txt
	perl src/wire/gen_wire.pl src/wire/messages.txt src/wire/errors.txt src/wire

src/wire/kmsg_gen.h: src/wire/kmsg_gen.c ;
