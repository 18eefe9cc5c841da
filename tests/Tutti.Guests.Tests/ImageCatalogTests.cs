namespace Tutti.Guests.Tests;

public sealed class ImageCatalogTests : IDisposable
{
    private readonly FakeHost _host = new();

    [Fact]
    public async Task A_pull_puts_kernel_and_initrd_into_the_cache_and_the_next_start_fetches_nothing()
    {
        Assert.Null(_host.Catalog.List()[0].Cached);
        GuestImage image = await _host.Catalog.GetAsync("debian");
        Assert.Equal("KERNEL BYTES", await File.ReadAllTextAsync(image.KernelPath));
        Assert.Contains("BUSYBOX BYTES", await File.ReadAllTextAsync(image.InitrdPath), StringComparison.Ordinal);
        Assert.Equal("9.9.9-1", image.Version);
        Assert.Contains("console=ttyS0", image.CommandLine, StringComparison.Ordinal);
        Assert.Equal(image, _host.Catalog.List()[0].Cached);
        Assert.Equal(image, await _host.Catalog.GetAsync("debian"));
        Assert.Equal(1, _host.Downloads);
        Assert.Empty(_host.Leftovers);
    }

    [Fact]
    public async Task A_pull_on_request_fetches_again_and_replaces_the_entry()
    {
        await _host.Catalog.PullAsync("debian");
        _host.WritePackage("linux-image-9.9.9-1-cloud-amd64_9.9.9-1_amd64.deb", ("./boot/vmlinuz-9.9.9-1-cloud-amd64", "A NEWER KERNEL"));
        GuestImage image = await _host.Catalog.PullAsync("debian");
        Assert.Equal("A NEWER KERNEL", await File.ReadAllTextAsync(image.KernelPath));
        Assert.Equal(2, _host.Downloads);
        Assert.Empty(_host.Leftovers);
    }

    [Fact]
    public async Task Progress_rises_to_one_although_apt_s_own_falls()
    {
        Recorder recorder = new();
        await _host.Catalog.GetAsync("debian", recorder);
        Assert.Equal(recorder.Fractions.Order(), recorder.Fractions);
        Assert.Equal(1, recorder.Fractions[^1]);
        Assert.True(recorder.Fractions.Count > 5);
    }

    [Fact]
    public async Task A_broken_initrd_is_rebuilt_without_fetching()
    {
        GuestImage image = await _host.Catalog.GetAsync("debian");
        byte[] whole = await File.ReadAllBytesAsync(image.InitrdPath);
        await File.WriteAllTextAsync(image.InitrdPath, "short");
        Assert.Null(_host.Catalog.List()[0].Cached);
        GuestImage healed = await _host.Catalog.GetAsync("debian");
        Assert.Equal(whole, await File.ReadAllBytesAsync(healed.InitrdPath));
        Assert.Equal(1, _host.Downloads);
    }

    [Theory]
    [InlineData("vmlinuz", "")]
    [InlineData("vmlinuz", "KERNEL BYTEX")]
    [InlineData("manifest.json", "{")]
    [InlineData("manifest.json", "{\"version\":null}")]
    [InlineData("manifest.json", null)]
    public async Task A_broken_entry_is_fetched_again(string file, string? content)
    {
        await _host.Catalog.GetAsync("debian");
        string path = Path.Combine(_host.Entry, file);
        if (content is null)
        {
            File.Delete(path);
        }
        else
        {
            await File.WriteAllTextAsync(path, content);
            File.SetLastWriteTimeUtc(path, DateTime.UtcNow.AddMinutes(1));
        }

        GuestImage healed = await _host.Catalog.GetAsync("debian");
        Assert.Equal("KERNEL BYTES", await File.ReadAllTextAsync(healed.KernelPath));
        Assert.Equal(2, _host.Downloads);
    }

    [Fact]
    public async Task A_touched_file_with_the_right_bytes_is_good()
    {
        GuestImage image = await _host.Catalog.GetAsync("debian");
        File.SetLastWriteTimeUtc(image.KernelPath, DateTime.UtcNow.AddDays(-3));
        await _host.Catalog.GetAsync("debian");
        Assert.Equal(1, _host.Downloads);
    }

    [Fact]
    public async Task Verification_finds_changed_bytes_behind_an_unchanged_size_and_time()
    {
        GuestImage image = await _host.Catalog.GetAsync("debian");
        Assert.True(_host.Catalog.Verify("debian"));
        DateTime time = File.GetLastWriteTimeUtc(image.KernelPath);
        await File.WriteAllTextAsync(image.KernelPath, "KERNEL BYTEX");
        File.SetLastWriteTimeUtc(image.KernelPath, time);
        Assert.False(_host.Catalog.Verify("debian"));
    }

    [Fact]
    public async Task A_file_in_the_entry_s_place_is_replaced()
    {
        Directory.CreateDirectory(Path.GetDirectoryName(_host.Entry)!);
        await File.WriteAllTextAsync(_host.Entry, "not a folder");
        await _host.Catalog.GetAsync("debian");
    }

    [Fact]
    public async Task A_manifest_cannot_lead_out_of_its_entry()
    {
        await _host.Catalog.GetAsync("debian");
        string manifest = Path.Combine(_host.Entry, "manifest.json");
        await File.WriteAllTextAsync(manifest, (await File.ReadAllTextAsync(manifest)).Replace("\"vmlinuz\"", "\"../debian/vmlinuz\"", StringComparison.Ordinal));
        Assert.Null(_host.Catalog.List()[0].Cached);
    }

    [Theory]
    [InlineData("apt-get")]
    [InlineData("apt-cache")]
    [InlineData("dpkg-deb")]
    public async Task Without_apt_the_error_names_the_ways_that_are_left(string missing)
    {
        File.Delete(Path.Combine(_host.Tools, missing));
        string message = await RefusalAsync();
        Assert.Contains(missing, message, StringComparison.Ordinal);
        Assert.Contains("--kernel", message, StringComparison.Ordinal);
        Assert.Contains("--initrd", message, StringComparison.Ordinal);
    }

    [Fact]
    public async Task Unreachable_sources_are_reported_in_apt_s_words()
    {
        _host.Tool("apt-get", "echo \"W: Failed to fetch something  Could not resolve 'deb.example'\" >&2");
        _host.Tool("apt-cache", "echo 'E: No packages found' >&2; exit 100");
        Assert.Contains("Could not resolve 'deb.example'", await RefusalAsync(), StringComparison.Ordinal);
    }

    [Fact]
    public async Task Sources_without_the_kernel_are_told_from_unreachable_ones()
    {
        _host.Tool("apt-cache", "echo 'E: No packages found' >&2; exit 100");
        string message = await RefusalAsync();
        Assert.Contains("linux-image-cloud-amd64 is in none of this host's apt sources", message, StringComparison.Ordinal);
    }

    [Fact]
    public async Task A_failed_download_gives_apt_s_first_error()
    {
        _host.Tool("apt-get", "case \"$*\" in *download*) printf 'W: something\\nE: Failed to fetch x  Hash Sum mismatch\\nE: more\\n' >&2; exit 100 ;; esac");
        string message = await RefusalAsync();
        Assert.EndsWith("Failed to fetch x  Hash Sum mismatch.", message, StringComparison.Ordinal);
    }

    [Fact]
    public async Task A_full_disk_under_apt_is_named_as_such()
    {
        _host.Tool("apt-get", "case \"$*\" in *download*) echo 'E: Write error - write (28: No space left on device)' >&2; exit 100 ;; esac");
        Assert.Contains("is full", await RefusalAsync(), StringComparison.Ordinal);
    }

    [Fact]
    public async Task Lists_that_do_not_fit_on_the_disk_are_named_as_such()
    {
        _host.Tool("apt-get", "echo 'E: Write error - write (28: No space left on device)' >&2; exit 100");
        Assert.Contains("is full", await RefusalAsync(), StringComparison.Ordinal);
    }

    [Fact]
    public void A_disk_without_room_for_a_pull_is_found_beforehand() =>
        Assert.Contains("has 0 MiB free", Assert.Throws<ImageException>(() => DiskSpace.Check("/proc", DiskSpace.NeededForPull)).Message, StringComparison.Ordinal);

    [Fact]
    public async Task A_tool_that_hangs_is_ended()
    {
        _host.Tool("apt-get", "echo one; sleep 60");
        Task<ToolResult> run = ExternalTool.RunAsync(Path.Combine(_host.Tools, "apt-get"), [], "/", _ => { }, default, TimeSpan.FromMilliseconds(300));
        ImageException error = await Assert.ThrowsAsync<ImageException>(() => run.WaitAsync(TimeSpan.FromSeconds(20)));
        Assert.Contains("has hung", error.Message, StringComparison.Ordinal);
    }

    [Fact]
    public void The_newest_readable_host_kernel_is_named()
    {
        Assert.Null(HostKernel.Find(_host.Cache));
        File.WriteAllText(Path.Combine(_host.Tools, "vmlinuz-1"), "");
        File.WriteAllText(Path.Combine(_host.Tools, "vmlinuz-2"), "");
        Assert.Equal(Path.Combine(_host.Tools, "vmlinuz-2"), HostKernel.Find(_host.Tools));
    }

    [Fact]
    public void A_full_disk_under_our_own_writes_is_recognised()
    {
        IOException error = Assert.ThrowsAny<IOException>(() =>
        {
            using FileStream full = new("/dev/full", FileMode.Open, FileAccess.Write, FileShare.ReadWrite, bufferSize: 0);
            full.Write([1]);
        });
        Assert.True(DiskSpace.IsFull(error));
        Assert.False(DiskSpace.IsFull(new FileNotFoundException()));
    }

    [Theory]
    [InlineData("echo garbage")]
    [InlineData("echo 'dpkg-deb: error: not a Debian archive' >&2; exit 2")]
    [InlineData("head -c 700 \"$2\"")]
    [InlineData("true")]
    public async Task A_package_that_cannot_be_unpacked_is_an_error(string script)
    {
        _host.Tool("dpkg-deb", script);
        Assert.Contains("could not be unpacked", await RefusalAsync(), StringComparison.Ordinal);
    }

    [Fact]
    public async Task A_cache_that_cannot_be_written_is_one_clear_line()
    {
        await File.WriteAllTextAsync(_host.Cache, "a file where the cache folder should be");
        Assert.Contains("XDG_CACHE_HOME", await RefusalAsync(), StringComparison.Ordinal);
        Assert.Null(_host.Catalog.List()[0].Cached);
    }

    [Fact]
    public async Task Two_at_once_fetch_once()
    {
        _host.Tool("apt-get", _host.Succeed + "\nsleep 0.2");
        ImageCatalog other = new(_host.Cache, _host.Tools);
        GuestImage[] images = await Task.WhenAll(Task.Run(() => _host.Catalog.GetAsync("debian")), Task.Run(() => other.GetAsync("debian")));
        Assert.Equal(images[0], images[1]);
        Assert.Equal(1, _host.Downloads);
    }

    [Fact]
    public async Task What_a_crash_left_behind_is_removed()
    {
        string leftover = Directory.CreateDirectory(Path.Combine(_host.Cache, "work-1234", "entry")).FullName;
        await _host.Catalog.GetAsync("debian");
        Assert.False(Directory.Exists(leftover));
    }

    [Fact]
    public async Task A_cancelled_pull_ends_its_programs_and_leaves_nothing()
    {
        _host.Tool("apt-get", "sleep 60");
        using CancellationTokenSource cancel = new(TimeSpan.FromMilliseconds(300));
        Task<GuestImage> pull = _host.Catalog.PullAsync("debian", null, cancel.Token);
        await Assert.ThrowsAnyAsync<OperationCanceledException>(() => pull.WaitAsync(TimeSpan.FromSeconds(20)));
        Assert.Empty(_host.Leftovers);
        Assert.Null(_host.Catalog.List()[0].Cached);
    }

    [Fact]
    public async Task A_removed_image_is_gone()
    {
        Assert.False(_host.Catalog.Remove("debian"));
        await _host.Catalog.GetAsync("debian");
        Assert.True(_host.Catalog.Remove("debian"));
        Assert.False(Directory.Exists(_host.Entry));
    }

    [Fact]
    public async Task An_unknown_name_is_an_error_everywhere()
    {
        await Assert.ThrowsAsync<ImageException>(() => _host.Catalog.GetAsync("../debian"));
        await Assert.ThrowsAsync<ImageException>(() => _host.Catalog.PullAsync("x"));
        Assert.Throws<ImageException>(() => _host.Catalog.Remove("x"));
        Assert.Throws<ImageException>(() => _host.Catalog.Verify("x"));
    }

    [Theory]
    [InlineData("linux-image-6.1.0-56-cloud-amd64 (= 6.1.192-2)", "linux-image-6.1.0-56-cloud-amd64")]
    [InlineData("foo, linux-image-6.12.1-cloud-amd64:any | linux-image-6.12.1-cloud-amd64-unsigned", "linux-image-6.12.1-cloud-amd64")]
    public void The_kernel_behind_the_metapackage_is_found(string depends, string expected) =>
        Assert.Equal(expected, DebianImage.FindKernelPackage(depends));

    public void Dispose() => _host.Dispose();

    /// <summary>The message of a refused pull: one line, and nothing left behind.</summary>
    private async Task<string> RefusalAsync()
    {
        ImageException error = await Assert.ThrowsAsync<ImageException>(() => _host.Catalog.GetAsync("debian"));
        Assert.DoesNotContain('\n', error.Message);
        Assert.Empty(_host.Leftovers);
        return error.Message;
    }

    private sealed class Recorder : IProgress<ImageProgress>
    {
        public List<double> Fractions { get; } = [];

        public void Report(ImageProgress value)
        {
            lock (Fractions)
            {
                Fractions.Add(value.Fraction);
            }
        }
    }
}
