using System.Buffers;
using System.Security.Cryptography;
using System.Text;
using System.Text.Json;

namespace Tutti.Guests.Seed;

/// <summary>
/// What cloud-init in a guest is told at its first start, as a disk in the NoCloud format (cloud-init's documentation, "NoCloud"). The user's own
/// file goes in as it is; what Tutti's options say is vendor data, which that file may overrule.
/// </summary>
public sealed record CloudInitSeed
{
    private const string VolumeId = "cidata";
    private const int MaxUserData = 16 << 20;

    /// <summary>What stays the same for a machine and tells it from others: the name of its disk.</summary>
    public required string Machine { get; init; }

    /// <summary>The guest's host name; null leaves the image's.</summary>
    public string? HostName { get; init; }

    /// <summary>A user to be made, who may become root without a password; null for the image's own.</summary>
    public string? User { get; init; }

    /// <summary>Public keys that let that user in by ssh.</summary>
    public IReadOnlyList<string> SshKeys { get; init; } = [];

    /// <summary>That user's password on the console, which then asks for it; null for none.</summary>
    public string? Password { get; init; }

    /// <summary>Contents of the user's own file; null for none.</summary>
    public ReadOnlyMemory<byte>? UserData { get; init; }

    /// <summary>Whether the disk is of the image "debian-server", whose console logs a user in by itself.</summary>
    public bool IsServerImage { get; init; }

    /// <summary>Whether there is anything to say: without it the guest starts sooner if no seed is attached.</summary>
    public bool IsEmpty => HostName == null && User == null && SshKeys.Count == 0 && Password == null && UserData == null;

    /// <summary>Reads keys as <c>--ssh-key</c> takes them: a key's text, or the name of a file with a key in each line.</summary>
    /// <exception cref="ImageException">There is no such file, or what it holds is no public key.</exception>
    public static IReadOnlyList<string> ReadSshKeys(string value)
    {
        ArgumentNullException.ThrowIfNull(value);
        if (IsSshKey(value.Trim()))
        {
            return [value.Trim()];
        }

        string text;
        try
        {
            text = new FileInfo(value).Length <= 1 << 20 ? File.ReadAllText(value) : string.Empty;
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException or ArgumentException or NotSupportedException)
        {
            throw new ImageException($"--ssh-key '{value}' is neither a public key nor a file that can be read: give a file as ~/.ssh/id_ed25519.pub.", e);
        }

        if (text.Contains("PRIVATE KEY", StringComparison.Ordinal))
        {
            throw new ImageException($"--ssh-key '{value}' is a private key, which is nobody else's affair: give the file beside it that ends in .pub.");
        }

        string[] keys = [.. text.Split('\n').Select(line => line.Trim()).Where(line => line.Length > 0 && line[0] != '#')];
        return keys.Length > 0 && Array.TrueForAll(keys, IsSshKey) ? keys : throw new ImageException($"--ssh-key '{value}' holds no public key: give a file as ~/.ssh/id_ed25519.pub.");
    }

    /// <summary>Checks what the user has said.</summary>
    /// <exception cref="ImageException">One line on what cannot be.</exception>
    public void Validate()
    {
        if (HostName != null && (HostName.Length > 253 || !HostName.Split('.').All(IsHostLabel)))
        {
            throw new ImageException($"--hostname '{HostName}' is no host name: letters, digits and hyphens, 63 at most between dots.");
        }

        if (User != null && (User.Length > 32 || User.Length == 0 || !(char.IsAsciiLetterLower(User[0]) || User[0] == '_') || !User.All(c => char.IsAsciiLetterLower(c) || char.IsAsciiDigit(c) || c is '_' or '-')))
        {
            throw new ImageException($"--user '{User}' is no user name: up to 32 small letters, digits, hyphens and underscores, a letter first.");
        }

        if (User == "root")
        {
            throw new ImageException("--user root is there already and cannot log in: give another name; that user may use sudo.");
        }

        if (UserData is { Length: > MaxUserData })
        {
            throw new ImageException($"--user-data is larger than {MaxUserData >> 20} MiB, which cloud-init would not take.");
        }
    }

    /// <summary>The seed's disk. The same seed gives the same bytes, and another one another instance, so that cloud-init applies it anew.</summary>
    public byte[] ToImage()
    {
        Validate();
        byte[] userData = UserData?.ToArray() ?? "#cloud-config\n{}\n"u8.ToArray();
        byte[] vendorData = [.. "#cloud-config\n"u8, .. Json(WriteVendorData), (byte)'\n'];
        byte[] names = Json(json => json.WriteString("local-hostname", HostName ?? string.Empty));
        string instance = Convert.ToHexStringLower(SHA256.HashData([.. Encoding.UTF8.GetBytes(Machine), 0, .. names, .. userData, 0, .. vendorData]))[..16];
        byte[] metaData = Json(json =>
        {
            json.WriteString("instance-id", $"tutti-{instance}");
            if (HostName != null)
            {
                json.WriteString("local-hostname", HostName);
            }
        });
        return IsoWriter.Write(VolumeId, [("meta-data", metaData), ("user-data", userData), ("vendor-data", vendorData)]);
    }

    private static bool IsHostLabel(string label) =>
        label.Length is > 0 and <= 63 && label[0] != '-' && label[^1] != '-' && label.All(c => char.IsAsciiLetterOrDigit(c) || c == '-');

    /// <summary>"ssh-ed25519 AAAA… comment".</summary>
    private static bool IsSshKey(string text)
    {
        string[] words = text.Split(' ', 3, StringSplitOptions.RemoveEmptyEntries);
        return words.Length >= 2 && !text.Any(char.IsControl)
            && (words[0].StartsWith("ssh-", StringComparison.Ordinal) || words[0].StartsWith("ecdsa-sha2-", StringComparison.Ordinal) || words[0].StartsWith("sk-", StringComparison.Ordinal))
            && words[1].StartsWith("AAAA", StringComparison.Ordinal);
    }

    /// <summary>JSON is YAML, too, and knows how to quote.</summary>
    private static byte[] Json(Action<Utf8JsonWriter> write)
    {
        ArrayBufferWriter<byte> buffer = new();
        using (Utf8JsonWriter json = new(buffer, new JsonWriterOptions { Indented = true }))
        {
            json.WriteStartObject();
            write(json);
            json.WriteEndObject();
        }

        return buffer.WrittenSpan.ToArray();
    }

    private void WriteVendorData(Utf8JsonWriter json)
    {
        if (User != null)
        {
            json.WriteStartArray("users");
            json.WriteStartObject();
            json.WriteString("name", User);
            json.WriteString("shell", "/bin/bash");
            json.WriteString("sudo", "ALL=(ALL) NOPASSWD:ALL");
            json.WriteBoolean("lock_passwd", Password == null);
            if (Password != null)
            {
                json.WriteString("plain_text_passwd", Password);
            }

            WriteKeys(json);
            json.WriteEndObject();
            json.WriteEndArray();
        }
        else
        {
            WriteKeys(json);
            if (Password != null)
            {
                json.WriteString("password", Password);
                json.WriteStartObject("chpasswd");
                json.WriteBoolean("expire", false);
                json.WriteEndObject();
            }
        }

        if (IsServerImage)
        {
            json.WriteStartArray("write_files");
            json.WriteStartObject();
            json.WriteString("path", "/etc/tutti/console");
            json.WriteString("content", Password != null ? "TUTTI_LOGIN=\n" : $"TUTTI_LOGIN=--autologin {User ?? "debian"}\n");
            json.WriteEndObject();
            json.WriteEndArray();
        }
    }

    private void WriteKeys(Utf8JsonWriter json)
    {
        if (SshKeys.Count == 0)
        {
            return;
        }

        json.WriteStartArray("ssh_authorized_keys");
        foreach (string key in SshKeys)
        {
            json.WriteStringValue(key);
        }

        json.WriteEndArray();
    }
}
