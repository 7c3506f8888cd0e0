package PstTest::Http;

# What a test tells and asks the receiver of webhooks (test/servers/http).
#
#	my $hook = client($server);
#	$hook->behave(status => 503, retry_after => '2');	# see receiver.py; no words: well
#	$hook->received;	# [ { path, headers => { … }, body }, … ]
#	$hook->requests;	# [ when each request came, … ]
#	$hook->forget;		# both of them

use strict;
use warnings;
use HTTP::Tiny;
use JSON::PP;

sub connect
{
	my ($class, $port) = @_;
	return bless {
		url => 'http://127.0.0.1:' . ($port + 1),
		http => HTTP::Tiny->new(timeout => 20, proxy => undef, http_proxy => undef),
	}, $class;
}

sub _ask
{
	my ($self, $method, $path, $content) = @_;
	my $answer = $self->{http}->request($method, "$self->{url}$path",
		defined $content ? { content => $content } : {});
	die "receiver: $method $path: $answer->{status} $answer->{content}\n" unless $answer->{success};
	return $answer->{content};
}

sub behave
{
	my ($self, %how) = @_;
	$self->_ask('POST', '/behave', encode_json(\%how));
	return;
}

sub received
{
	my ($self) = @_;
	my $received = decode_json($self->_ask('GET', '/received'));
	utf8::encode($_->{body}) for @$received;	# bytes, as they came
	return $received;
}

sub requests { return decode_json($_[0]->_ask('GET', '/requests')) }

sub forget
{
	my ($self) = @_;
	$self->_ask('DELETE', '/received');
	return;
}

1;
