package PstTest::Tls;

# A certificate authority of our own, for tests: ca.pem, and cert.pem with key.pem
# of a server on 127.0.0.1 (or as told), in one folder that every server can read.

use strict;
use warnings;

# Returns the folder; subject_alt_name => 'DNS:elsewhere' makes a certificate for
# another host.
sub make
{
	my ($dir, %opt) = @_;
	my $san = $opt{subject_alt_name} // 'IP:127.0.0.1,DNS:localhost';
	mkdir $dir or die "$dir: $!\n";
	chmod 0755, $dir;
	open(my $file, '>', "$dir/san") or die $!;
	print $file "subjectAltName=$san\n";
	close($file);
	for my $words (
		"req -x509 -newkey rsa:2048 -nodes -days 2 -subj '/CN=test authority' -keyout '$dir/ca.key' -out '$dir/ca.pem'",
		"req -newkey rsa:2048 -nodes -subj '/CN=test server' -keyout '$dir/key.pem' -out '$dir/csr'",
		"x509 -req -days 2 -in '$dir/csr' -CA '$dir/ca.pem' -CAkey '$dir/ca.key' -CAcreateserial -extfile '$dir/san' -out '$dir/cert.pem'")
	{
		system("openssl $words >'$dir/log' 2>&1") == 0 or die "openssl $words: failed\n";
	}
	chmod 0644, glob("$dir/*");
	return $dir;
}

1;
