using System.Diagnostics;
using Tutti.Guests.Disks;

namespace Tutti.Guests.Tests.Disks;

/// <summary>A folder with files of many kinds, and ext file systems that e2fsprogs makes of it.</summary>
internal sealed class ExtImage : IDisposable
{
    public ExtImage()
    {
        Source = Directory.CreateDirectory(Path.Combine(Root, "source")).FullName;
    }

    public string Root { get; } = Directory.CreateTempSubdirectory("tutti-ext").FullName;

    /// <summary>What goes into the file system.</summary>
    public string Source { get; }

    public string Image => Path.Combine(Root, "image");

    public static string? Missing => File.Exists("/usr/sbin/mke2fs") || File.Exists("/sbin/mke2fs") ? null : "mke2fs is not installed (Debian: e2fsprogs)";

    public void Write(string path, byte[] bytes)
    {
        string target = Path.Combine(Source, path);
        Directory.CreateDirectory(Path.GetDirectoryName(target)!);
        File.WriteAllBytes(target, bytes);
    }

    public void Write(string path, string text) => Write(path, System.Text.Encoding.UTF8.GetBytes(text));

    public void Make(string options, string size) =>
        Run("mke2fs", [.. $"-q -F -U 11111111-2222-3333-4444-555555555555 {options} -d".Split(' ', StringSplitOptions.RemoveEmptyEntries), Source, Image, size]);

    public static string Run(string program, string[] arguments, string input = "")
    {
        ProcessStartInfo start = new("/usr/bin/env", ["PATH=/usr/sbin:/sbin:/usr/bin:/bin", program, .. arguments]) { RedirectStandardOutput = true, RedirectStandardError = true, RedirectStandardInput = true };
        using Process process = Process.Start(start)!;
        process.StandardInput.Write(input);
        process.StandardInput.Close();
        Task<string> errors = process.StandardError.ReadToEndAsync();
        string output = process.StandardOutput.ReadToEnd();
        process.WaitForExit();
        Assert.True(process.ExitCode is 0 or 1, $"{program} {string.Join(' ', arguments)}: {output} {errors.Result}");
        return output;
    }

    public MemoryDisk Load() => new(File.ReadAllBytes(Image));

    public void Dispose() => Directory.Delete(Root, recursive: true);
}

/// <summary>A disk in memory.</summary>
internal sealed class MemoryDisk(byte[] bytes) : IDiskReader
{
    public byte[] Bytes => bytes;

    public long Size => bytes.Length;

    public void Read(long offset, Span<byte> into)
    {
        if (offset < 0 || offset > bytes.Length - into.Length)
        {
            throw new ImageException("The disk ends.");
        }

        bytes.AsSpan((int)offset, into.Length).CopyTo(into);
    }
}

[AttributeUsage(AttributeTargets.Method)]
internal sealed class ExtFactAttribute : FactAttribute
{
    public ExtFactAttribute() => Skip = ExtImage.Missing;
}

[AttributeUsage(AttributeTargets.Method)]
internal sealed class ExtTheoryAttribute : TheoryAttribute
{
    public ExtTheoryAttribute() => Skip = ExtImage.Missing;
}
